"""Draw images with an export, without a configuration.

    python -m clif_exp.generate --model runs/default/<timestamp>/export --prompt "a photo of <milo>
    next to <otto>" --seed 0 --out pair.png

The export's README.md names the base model; `--base` replaces it. The image is the one that the
stock diffusers pipeline draws from `torch.Generator().manual_seed(seed)`.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from clif_exp.base_models.families import FAMILIES, Family, family_of_pipeline
from clif_exp.export.embeddings import concepts_in, load_textual_inversions


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, draw and save; a user's error is one line and exit code 2."""
    options = parse(arguments)
    try:
        files = draw(
            options.model,
            prompts=options.prompt,
            seeds=options.seed,
            out=options.out,
            base=options.base,
            steps=options.steps,
            guidance=options.guidance,
            batch_size=options.batch_size,
            device=options.device,
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(map(str, files)))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options; argparse itself reports what is wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m clif_exp.generate", description=__doc__, formatter_class=raw
    )
    parser.add_argument("--model", type=Path, required=True, help="export folder of a run")
    parser.add_argument(
        "--prompt",
        action="append",
        required=True,
        help="concepts as <name>; may be given several times",
    )
    parser.add_argument(
        "--seed", type=int, nargs="+", default=[0], help="one image of each prompt per seed"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="a .png for one image, else a folder"
    )
    parser.add_argument(
        "--base", help="base model, a folder or hub id, instead of the one that README.md names"
    )
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default=None, help="cpu, cuda, ...; cuda where there is one")
    return parser.parse_args(arguments)


def draw(
    model: Path,
    *,
    prompts: list[str],
    seeds: list[int],
    out: Path,
    base: str | None = None,
    steps: int = 25,
    guidance: float = 5.0,
    batch_size: int = 8,
    device: str | None = None,
) -> list[Path]:
    """Draw every prompt with every seed.

    Args:
        model: an export folder.
        prompts: prompts with concepts as `<name>`.
        seeds: sampling seeds.
        out: a `.png` for a single image, else a folder, created if missing.
        base: base model instead of the one that the export names.
        steps: denoising steps.
        guidance: classifier-free guidance.
        batch_size: images at a time.
        device: torch device; None takes CUDA where there is one.

    Returns:
        The files written, prompts outside, seeds inside.

    Raises:
        ValueError: no export, an unknown concept in a prompt, or several images for one file.
    """
    card = read_card(model)
    known = concepts_in(model)
    for prompt in prompts:
        if unknown := [name for name in re.findall(r"<([^<>\s]+)>", prompt) if name not in known]:
            raise ValueError(
                f"prompt {prompt!r}: <{unknown[0]}> is not a concept of {model}. It has"
                f" {', '.join(known)}."
            )
    if min(steps, batch_size) < 1:
        raise ValueError(f"steps={steps}, batch-size={batch_size}: both must be at least 1.")
    jobs = [(prompt, seed) for prompt in prompts for seed in seeds]
    files = name_files(out, jobs)
    base, revision = (base, None) if base else base_model(card, model)
    pipeline = load_export(
        model,
        base=base,
        revision=revision,
        family=family_of(card),
        device=device,
    )
    from PIL import Image

    from clif_exp.generation.sampling import sample

    for start in range(0, len(jobs), batch_size):
        batch = jobs[start : start + batch_size]
        arrays = sample(
            pipeline,
            [prompt for prompt, _ in batch],
            noise_seeds=[seed for _, seed in batch],
            num_inference_steps=steps,
            guidance_scale=guidance,
            # With it, images would differ slightly from the stock pipeline's.
            mixed_precision=False,
        )
        for file, pixels_HWC in zip(files[start:], arrays, strict=False):
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels_HWC).save(file)
    return files


def name_files(out: Path, jobs: list[tuple[str, int]]) -> list[Path]:
    """Return the files: `out` itself for one image, else `out/00-a_photo_of_milo-s0.png`, ..."""
    if out.suffix.lower() == ".png":
        if len(jobs) > 1:
            raise ValueError(f"out: {out} is one file for {len(jobs)} images. Name a folder.")
        return [out]
    slugs = [re.sub(r"[^a-z0-9]+", "_", prompt.lower()).strip("_")[:60] for prompt, _ in jobs]
    prompts = list(dict.fromkeys(prompt for prompt, _ in jobs))
    return [
        out / f"{prompts.index(prompt):02d}-{slug}-s{seed}.png"
        for slug, (prompt, seed) in zip(slugs, jobs, strict=True)
    ]


def read_card(model: Path) -> dict[str, Any]:
    """Return the front matter of an export's model card, and its whole text as `text`."""
    file = model / "README.md"
    if not file.exists() or not (model / "embeddings").is_dir():
        raise ValueError(
            f"model: {model} is not an export (README.md or embeddings/ is missing). Name the"
            " export folder of a run."
        )
    text = file.read_text()
    head = text.split("---")[1] if text.startswith("---") else ""
    return {**(yaml.safe_load(head) or {}), "text": text}


def base_model(card: dict[str, Any], model: Path) -> tuple[str, str | None]:
    """Return the base model that a card names, and its revision.

    A card names no local path: packaged base models are found, others must be given by the user.
    """
    name = str(card.get("base_model", ""))
    if local := re.fullmatch(r"<your (\w+) folder>", name):
        if local[1] in FAMILIES and FAMILIES[local[1]].packaged:
            from clif_exp.base_models.spec import packaged_weights

            return str(packaged_weights() / "pipeline"), None
        raise ValueError(
            f"model: {model} was trained on a local {local[1]} folder. Name it with --base."
        )
    if not name:
        raise ValueError(f"model: {model / 'README.md'} names no base_model. Name it with --base.")
    revision = re.search(r" at revision `(\w+)`", card["text"])
    return name, revision[1] if revision else None


def family_of(card: dict[str, Any]) -> Family:
    """Return the family of the diffusers pipeline that a card's tags name.

    Raises:
        ValueError: they name none, or an unknown one.
    """
    named = [tag for tag in card.get("tags", []) if tag.endswith("Pipeline")]
    if not named:
        raise ValueError("model: README.md has no pipeline among its tags; export the run again.")
    return family_of_pipeline(named[0])


def text_encoders(model: Path, *, family: Family, dtype: Any) -> dict[str, Any]:
    """Load the text encoders that an export holds whole, by the pipeline's names of them."""
    import transformers

    return {
        name: getattr(transformers, encoder.model_class).from_pretrained(
            model / name, use_safetensors=True, dtype=dtype
        )
        for name, encoder in family.encoders.items()
        if (model / name / "config.json").exists()
    }


def load_export(
    model: Path, *, base: str, revision: str | None, family: Family, device: str | None
) -> Any:
    """Load an export with nothing but diffusers' own loaders.

    Args:
        model: an export folder.
        base: base model, a folder or hub id.
        revision: commit of a hub id.
        family: of the base model.
        device: torch device; None takes CUDA where there is one.
    """
    import diffusers
    import torch

    from clif_exp.base_models.unet_tuning.registry import load_unet_tuning

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float32 if device == "cpu" else torch.float16
    pipeline = (
        getattr(diffusers, family.pipeline)
        .from_pretrained(
            base,
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            **family.options,
            **text_encoders(model, family=family, dtype=dtype),
        )
        .to(device)
    )
    load_textual_inversions(pipeline, model, family=family)
    load_unet_tuning(pipeline, model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


if __name__ == "__main__":
    sys.exit(main())
