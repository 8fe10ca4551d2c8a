"""Trains ToonWorld's base models: `python -m clif_exp.toonworld.train all --max-time 900`.

Training runs in slices: it may be stopped at any time, and the same command resumes it. `--publish`
writes the averaged weights of a model in their shipped layout, `install` gathers all models where
`model=toonworld` finds them; `restore` and `--warm` continue from those on another machine. Models
are trained in the order of MODELS: the U-Net needs the autoencoder and CLIP.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clif_exp.toonworld.recipes.corpus import Corpus
    from clif_exp.toonworld.recipes.fit import Recipe

MODELS = ("vae", "clip", "judge_clip", "sam", "oracle", "unet", "vae_decoder", "clip_image")
# These start from the published weights of another model, and replace them.
CONTINUED = {"vae_decoder": "vae", "clip_image": "clip"}
TRAINERS = ("cpu", "gpu")
# A judge must not have seen what it judges, so its images are its own. The oracle's take 5 GB of
# memory; `--scenes` uses fewer.
SCENES = {"judge_clip": 6_000, "oracle": 96_000}
SEEDS = {"judge_clip": 2}
# Share of the characters who have a name, where texts and images are learnt together.
NAMED = 0.4


def main() -> None:
    """Command line."""
    args = _parse()
    if args.model in ("install", "restore"):
        (install if args.model == "install" else restore)(args.root / "weights", args.out)
        return
    if args.threads:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    from clif_exp.base_models.precision import best_precision
    from clif_exp.toonworld.recipes.fit import fit, load_averaged, load_published

    # bf16 autocast is 5 times as fast as fp32 on CPUs with AMX, 2 times with AVX-512 bf16, and far
    # slower on others.
    hardware = {
        "accelerator": args.trainer,
        "devices": args.devices,
        "precision": best_precision("cuda" if args.trainer == "gpu" else "cpu"),
    }
    hardware["strategy"] = "ddp" if args.devices > 1 else "auto"
    for name in MODELS if args.model == "all" else (args.model,):
        recipe = make_recipe(
            name,
            root=args.root,
            steps=args.steps,
            scenes=args.scenes,
            batch_size=args.batch_size,
            warm=args.warm,
        )
        folder = args.root / name
        if args.warm and name not in CONTINUED and not (folder / "last.ckpt").exists():
            published = args.root / "weights" / name
            translate = (
                functools.partial(_learn_words, published=published, own=folder / "tokenizer")
                if name in ("clip", "judge_clip")
                else None
            )
            load_published(recipe, folder=published, translate=translate)
        finished = args.publish or fit(recipe, folder=folder, max_time=args.max_time, **hardware)
        if (args.publish or finished) and int(os.environ.get("LOCAL_RANK", 0)) == 0:
            out = args.root / "weights" / CONTINUED.get(name, name)
            partial = out.with_name(f"{out.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            recipe.publish(load_averaged(recipe, folder=folder), partial)
            shutil.rmtree(out, ignore_errors=True)  # shards of an earlier, larger file would stay
            partial.rename(out)
            print(f"{name}: written to {out}")


def make_recipe(
    name: str,
    *,
    root: Path,
    steps: int | None = None,
    scenes: int | None = None,
    batch_size: int | None = None,
    warm: bool = False,
) -> Recipe:
    """Make the recipe of one model on the corpus below `root`, which is drawn on first use.

    Args:
        name: one of `MODELS`.
        root: corpus, checkpoints, weights.
        steps: total optimiser steps; None: the recipe's.
        scenes: drawn scenes; None: the model's number.
        batch_size: scenes per step; None: the recipe's.
        warm: training will start from published weights, whose tokenizer must be kept.
    """
    from clif_exp.toonworld.recipes import clip, oracle, sam, vae
    from clif_exp.toonworld.recipes.corpus import render_corpus

    options: dict[str, Any] = {} if steps is None else {"steps": steps}
    options |= {} if batch_size is None else {"batch_size": batch_size}
    scenes = scenes or SCENES.get(name, 40_000)
    if name == "oracle":
        return oracle.recipe(
            root / "corpus", scenes=scenes, vae_folder=root / "weights" / "vae", **options
        )
    named = NAMED if name in ("clip", "clip_image", "unet") else 0.0
    corpus = render_corpus(root / "corpus", size=scenes, seed=SEEDS.get(name, 1), named=named)
    if name in ("clip", "judge_clip"):
        tokenizer = _settled_tokenizer(
            root / name / "tokenizer", published=root / "weights" / name if warm else None
        )
        return clip.recipe(corpus, tokenizer=tokenizer, judge=name == "judge_clip", **options)
    if name == "clip_image":
        return clip.image_recipe(corpus, folder=root / "weights" / "clip", **options)
    if name == "vae_decoder":
        return vae.decoder_recipe(corpus, folder=root / "weights" / "vae", **options)
    if name == "vae":
        return vae.recipe(corpus, **options)
    if name == "sam":
        return sam.recipe(corpus, **options)
    assert name == "unet", name
    return _unet_recipe(corpus, root=root, **options)


def _unet_recipe(corpus: Corpus, *, root: Path, **options: Any) -> Recipe:
    """Make the U-Net's recipe on latents by the published autoencoder."""
    from transformers import CLIPModel, CLIPTokenizer

    from clif_exp.toonworld.architectures import build_text_encoder
    from clif_exp.toonworld.recipes import leaks, unet, vae

    autoencoder = root / "weights" / "vae"
    version = _encoder_version(autoencoder)
    latents = vae.encode_corpus(
        autoencoder, corpus, root / "corpus" / f"latents-{len(corpus)}-{version}.npy"
    )
    leaked = leaks.encode_leaks(
        autoencoder, corpus, root / "corpus" / f"leaks{leaks.VERSION}-{len(corpus)}-{version}.npy"
    )
    model = CLIPModel.from_pretrained(
        root / "weights" / "clip", attn_implementation="eager"
    ).float()
    tokenizer = CLIPTokenizer.from_pretrained(root / "weights" / "clip")
    return unet.recipe(
        corpus,
        latents,
        leaked,
        tokenizer=tokenizer,
        text_encoder=build_text_encoder(model),
        **options,
    )


def _encoder_version(folder: Path) -> str:
    """Eight hex digits of the encoder in `folder`: they change if the latents of an image do."""
    from diffusers import AutoencoderKL

    vae: Any = AutoencoderKL.from_pretrained(folder)
    digest = hashlib.sha256(str(vae.config.scaling_factor).encode())
    for part in (vae.encoder, vae.quant_conv):
        for name, weight in sorted(part.state_dict().items()):
            digest.update(name.encode() + weight.half().numpy().tobytes())
    return digest.hexdigest()[:8]


def _settled_tokenizer(folder: Path, *, published: Path | None) -> Any:
    """Load the tokenizer that a run started with: building another one changes the words' ids.

    A published one is kept unless the world has words by now that it lacks.
    """
    from transformers import CLIPTokenizer

    from clif_exp.toonworld.architectures import build_tokenizer
    from clif_exp.toonworld.grammar import VOCABULARY

    if not folder.exists():
        tokenizer = None if published is None else CLIPTokenizer.from_pretrained(published)
        if tokenizer is None or not {f"{word}</w>" for word in VOCABULARY} <= set(
            tokenizer.get_vocab()
        ):
            tokenizer = build_tokenizer()
        tokenizer.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def _learn_words(state: dict[str, Any], *, published: Path, own: Path) -> None:
    """Move a published CLIP's token embeddings to the rows that they have in our tokenizer."""
    from transformers import CLIPTokenizer

    from clif_exp.toonworld.recipes.widen import with_new_words

    table = "text_model.embeddings.token_embedding.weight"
    old, new = (CLIPTokenizer.from_pretrained(folder).get_vocab() for folder in (published, own))
    if old != new:
        state[table] = with_new_words(state[table], old=old, new=new)


def install(trained: Path, out: Path) -> None:
    """Gather trained models into the shipped layout (`architectures.FOLDERS`)."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPModel, CLIPTokenizer

    from clif_exp.toonworld.architectures import FOLDERS, build_text_encoder, write_pipeline

    for name in FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)
        if name != "pipeline":
            shutil.copytree(trained / name, out / name)
    write_pipeline(
        out / "pipeline",
        tokenizer=CLIPTokenizer.from_pretrained(trained / "clip"),
        text_encoder=build_text_encoder(CLIPModel.from_pretrained(trained / "clip")),
        unet=UNet2DConditionModel.from_pretrained(trained / "unet"),
        vae=AutoencoderKL.from_pretrained(trained / "vae"),
    )
    print(f"installed in {out}")


def restore(trained: Path, shipped: Path) -> None:
    """Undo `install`: put shipped models where training with `--warm` looks for them."""
    sources = {name: shipped / name for name in ("clip", "judge_clip", "sam", "oracle")}
    for name, source in (
        sources | {name: shipped / "pipeline" / name for name in ("unet", "vae")}
    ).items():
        shutil.rmtree(trained / name, ignore_errors=True)
        shutil.copytree(source, trained / name)
    print(f"restored to {trained}")


def _parse() -> argparse.Namespace:
    default_root = (
        Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clif_exp" / "toonworld"
    )
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=(*MODELS, "all", "install", "restore"))
    parser.add_argument("--trainer", choices=TRAINERS, default="cpu")
    parser.add_argument(
        "--max-time", type=float, help="seconds for this slice (per model); default: until finished"
    )
    parser.add_argument("--steps", type=int, help="total optimiser steps; default: the recipe's")
    parser.add_argument("--scenes", type=int, help="drawn scenes to train on; default: the model's")
    parser.add_argument("--batch-size", type=int, help="scenes per step; default: the recipe's")
    parser.add_argument(
        "--threads", type=int, help="CPU threads; two models on one thread each beat one on two"
    )
    parser.add_argument(
        "--devices",
        type=int,
        default=1,
        help="GPUs, or processes on a CPU; each takes a batch of its own per step",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=default_root,
        help=f"corpus, checkpoints, weights (default {default_root})",
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "weights", help="the shipped weights"
    )
    parser.add_argument(
        "--warm",
        action="store_true",
        help="start from the model's published weights instead of random ones",
    )
    parser.add_argument(
        "--publish", action="store_true", help="only write the weights of the last checkpoint"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
