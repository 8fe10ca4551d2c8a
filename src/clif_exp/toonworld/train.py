"""Train ToonWorld's base models: `python -m clif_exp.toonworld.train all --trainer cpu --max-time 900`.

Runs in slices: stop it any time and the same command continues. `--publish` writes the averaged weights of a model in
their shipped layout, `install` gathers all of them where `model=toonworld` finds them. The order is vae, clip,
judge_clip, sam, oracle, unet: the U-Net needs the first two.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

MODELS = ("vae", "clip", "judge_clip", "sam", "oracle", "unet")
TRAINERS = ("cpu", "gpu")
CORPUS: dict[str, Any] = {"size": 40_000, "seed": 1}
JUDGE_CORPUS: dict[str, Any] = {"size": 6_000, "seed": 2}  # other pictures than the CLIP that it judges has seen


def main() -> None:
    """Command line."""
    args = _parse()
    if args.model == "install":
        install(args.root / "weights", args.out)
        return
    if args.threads:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    from clif_exp.precision import best_precision
    from clif_exp.toonworld.recipes.fit import fit, load_averaged

    # bf16 autocast is 5 times as fast as fp32 on CPUs with AMX, 2 times with AVX-512 bf16, and far slower on others.
    hardware = {"accelerator": args.trainer, "devices": 1, "precision": best_precision("cuda" if args.trainer == "gpu" else "cpu")}
    for name in MODELS if args.model == "all" else (args.model,):
        recipe = make_recipe(name, root=args.root, steps=args.steps)
        folder = args.root / name
        finished = args.publish or fit(recipe, folder=folder, max_time=args.max_time, **hardware)
        if args.publish or finished:
            recipe.publish(load_averaged(recipe, folder=folder), args.root / "weights" / name)
            print(f"{name}: written to {args.root / 'weights' / name}")


def make_recipe(name: str, *, root: Path, steps: int | None = None):
    """The recipe of one model on the corpus below `root` (drawn on first use)."""
    from clif_exp.toonworld.recipes import clip, oracle, sam, unet, vae
    from clif_exp.toonworld.recipes.corpus import render_corpus

    options = {} if steps is None else {"steps": steps}
    if name == "oracle":
        return oracle.recipe(root / "corpus", vae_folder=root / "weights" / "vae", **options)
    corpus = render_corpus(root / "corpus", **(JUDGE_CORPUS if name == "judge_clip" else CORPUS))
    if name in ("clip", "judge_clip"):
        return clip.recipe(corpus, judge=name == "judge_clip", **options)
    if name != "unet":
        return {"vae": vae, "sam": sam}[name].recipe(corpus, **options)
    from diffusers import AutoencoderKL
    from transformers import CLIPModel, CLIPTokenizer

    from clif_exp.toonworld.architectures import build_text_encoder

    trained = AutoencoderKL.from_pretrained(root / "weights" / "vae")
    latents = vae.encode_corpus(trained, corpus, root / "corpus" / "latents.npy")
    model = CLIPModel.from_pretrained(root / "weights" / "clip", attn_implementation="eager").float()
    tokenizer = CLIPTokenizer.from_pretrained(root / "weights" / "clip")
    return unet.recipe(corpus, latents, tokenizer=tokenizer, text_encoder=build_text_encoder(model), **options)


def install(trained: Path, out: Path) -> None:
    """Gather trained models into the shipped layout: `pipeline/`, `clip/`, `sam/`, `oracle/`, `judge_clip/`."""
    import shutil

    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPModel, CLIPTokenizer

    from clif_exp.toonworld.architectures import build_text_encoder, write_pipeline

    for name in ("clip", "judge_clip", "sam", "oracle"):
        shutil.copytree(trained / name, out / name, dirs_exist_ok=True)
    write_pipeline(
        out / "pipeline",
        tokenizer=CLIPTokenizer.from_pretrained(trained / "clip"),
        text_encoder=build_text_encoder(CLIPModel.from_pretrained(trained / "clip")),
        unet=UNet2DConditionModel.from_pretrained(trained / "unet"),
        vae=AutoencoderKL.from_pretrained(trained / "vae"),
    )
    print(f"installed in {out}")


def _parse() -> argparse.Namespace:
    default_root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clif_exp" / "toonworld"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=(*MODELS, "all", "install"))
    parser.add_argument("--trainer", choices=TRAINERS, default="cpu")
    parser.add_argument("--max-time", type=float, help="seconds for this slice (per model); default: until finished")
    parser.add_argument("--steps", type=int, help="optimiser steps in all; default: the recipe's")
    parser.add_argument("--threads", type=int, help="CPU threads; two models on one thread each beat one on two")
    parser.add_argument("--root", type=Path, default=default_root, help=f"corpus, checkpoints, weights (default {default_root})")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights", help="where `install` writes")
    parser.add_argument("--publish", action="store_true", help="only write the weights of the last checkpoint")
    return parser.parse_args()


if __name__ == "__main__":
    main()
