"""Draw images with an export, without a configuration.

    python -m clif_exp.generate --model runs/default/<timestamp>/export --out images \\
      --prompt "a photo of <milo> next to <otto>" "a photo of <milo> on the beach" --seed 0 1

The export's README.md names the base model; `--base` replaces it. The image is the one that the
stock diffusers pipeline draws from `torch.Generator().manual_seed(seed)`, unless each of several
concepts keeps to its part of it: by `--regional`, or because the export's run drew so
(`--no-regional` does not). Loading takes longer than drawing: ask for all images in one call.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import probe_folder
from clif_exp.base_models.devices import check_device
from clif_exp.base_models.families import Family
from clif_exp.base_models.loading import be_quiet
from clif_exp.errors import report
from clif_exp.export.embeddings import concepts_in, count_tokens
from clif_exp.export.reading import base_model, family_of, load_export, read_card
from clif_exp.export.record import read_regional, read_resolution, read_sampling
from clif_exp.prompts.sentences import by_region

# diffusers' own, for cards that do not say how their run drew
_STOCK = {"guidance_scale": 7.5, "num_inference_steps": 50}
_OTHER_IMAGES = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, draw and save; a user's error is one line and exit code 2."""
    options = parse(arguments)
    be_quiet()
    try:
        files = draw(
            options.model,
            prompts=options.prompt,
            seeds=options.seed,
            out=options.out,
            base=options.base,
            steps=options.steps,
            guidance=options.guidance,
            regional=options.regional,
            batch_size=options.batch_size,
            device=options.device,
        )
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        return report(error, memory="Lower --batch-size.")
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
        action="extend",
        nargs="+",
        required=True,
        help="one or more; concepts as <name>",
    )
    parser.add_argument(
        "--seed",
        type=int,
        nargs="+",
        default=[0],
        help="one image of each prompt per seed (default: 0)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="a .png for one image, else a folder"
    )
    parser.add_argument(
        "--base", help="base model, a folder or hub id, instead of the one that README.md names"
    )
    parser.add_argument(
        "--steps", type=int, help="of denoising (default: the export's run's, as README.md says)"
    )
    parser.add_argument(
        "--guidance", type=float, help="classifier-free guidance (default: the export's run's)"
    )
    parser.add_argument(
        "--regional",
        action=argparse.BooleanOptionalAction,
        help="each concept keeps to its part of the image, from left to right as the prompt puts"
        " or names them; for concepts that stand side by side or hug (default: if the export's run"
        " drew so)",
    )
    parser.add_argument("--batch-size", type=int, default=8, help="images at a time (default: 8)")
    parser.add_argument("--device", default=None, help="cpu, cuda, ...; cuda where there is one")
    return parser.parse_args(arguments)


def draw(
    model: Path,
    *,
    prompts: list[str],
    seeds: list[int],
    out: Path,
    base: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    regional: bool | None = None,
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
        steps: denoising steps; None: as many as the export's run took for its own images.
        guidance: classifier-free guidance; None: that of these images.
        regional: let each concept keep to its part of the image (`generation.guidance.regional`);
            None: if the export's run did, and as much.
        batch_size: images at a time.
        device: torch device; None takes CUDA where there is one.

    Returns:
        The files written, prompts outside, seeds inside.

    Raises:
        ValueError: an option that cannot work; nothing has been loaded or written yet.
        OSError: an image cannot be written.
    """
    card = read_card(model)
    drawn = _STOCK | read_sampling(card)
    steps = int(drawn["num_inference_steps"]) if steps is None else steps
    guidance = drawn["guidance_scale"] if guidance is None else guidance
    check_numbers(seeds=seeds, steps=steps, guidance=guidance, batch_size=batch_size)
    check_names(prompts, model=model)
    jobs = [(prompt, seed) for prompt in prompts for seed in seeds]
    files = name_files(out, jobs)
    check_device(device)
    base, revision = (base, None) if base else base_model(card, model)
    family = family_of(card)
    check_base(base, family=family)
    if regional:
        _tell_of_unchanged(prompts)
    weight = read_regional(card) if regional is None else 1.0 if regional else None
    read = {prompt: prompt for prompt in prompts}
    if weight is not None:
        read |= {text: prompt for prompt in prompts for text in by_region(prompt)}
    check_lengths(read, model=model, base=base, revision=revision, family=family)
    check_writable(files)
    pipeline = load_export(
        model,
        base=base,
        revision=revision,
        family=family,
        device=device,
        resolution=read_resolution(card),
    )
    from PIL import Image

    from clif_exp.generation.guidance.applying import side_by_side
    from clif_exp.generation.sampling import sample

    lengths = count_tokens(model)
    for start in range(0, len(jobs), batch_size):
        batch = jobs[start : start + batch_size]
        texts = [prompt for prompt, _ in batch]
        with (
            side_by_side(pipeline, texts, num_tokens=lengths, weight=weight)
            if weight is not None
            else nullcontext()
        ):
            arrays = sample(
                pipeline,
                texts,
                noise_seeds=[seed for _, seed in batch],
                num_inference_steps=steps,
                guidance_scale=guidance,
                # With it, images would differ slightly from the stock pipeline's.
                mixed_precision=False,
            )
        for file, pixels_HWC in zip(files[start:], arrays, strict=False):
            Image.fromarray(pixels_HWC).save(file)
    return files


def name_files(out: Path, jobs: list[tuple[str, int]]) -> list[Path]:
    """Return the files: `out` itself for one image, else `out/00-a_photo_of_milo-s0.png`, ..."""
    if out.suffix.lower() == ".png":
        if len(jobs) > 1:
            raise ValueError(f"out: {out} is one file for {len(jobs)} images. Name a folder.")
        return [out]
    if out.suffix.lower() in _OTHER_IMAGES:
        raise ValueError(f"out: found {out}; images are PNG files. Name a .png file or a folder.")
    slugs = [re.sub(r"[^a-z0-9]+", "_", prompt.lower()).strip("_")[:60] for prompt, _ in jobs]
    prompts = list(dict.fromkeys(prompt for prompt, _ in jobs))
    return [
        out / f"{prompts.index(prompt):02d}-{slug}-s{seed}.png"
        for slug, (prompt, seed) in zip(slugs, jobs, strict=True)
    ]


def check_numbers(*, seeds: list[int], steps: int, guidance: float, batch_size: int) -> None:
    """Refuse numbers that diffusers or torch would fail on, or draw nonsense with."""
    if not 1 <= steps <= 1000:
        raise ValueError(f"steps: found {steps}. Use 1 to 1000.")
    if batch_size < 1:
        raise ValueError(f"batch-size: found {batch_size}. It must be at least 1.")
    if not (math.isfinite(guidance) and guidance >= 0):
        raise ValueError(f"guidance: found {guidance}. Use a number from 0 up; 1 switches it off.")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**63]:
        raise ValueError(f"seed: found {wrong[0]}. Use 0 to 2^63 - 1.")


def check_names(prompts: list[str], *, model: Path) -> None:
    """Refuse unknown concepts; tell about names without brackets, which are ordinary words."""
    known = concepts_in(model)
    for prompt in prompts:
        shown = _short(prompt)
        if unknown := [name for name in re.findall(r"<([^<>\s]+)>", prompt) if name not in known]:
            raise ValueError(
                f"prompt {shown}: <{unknown[0]}> is not a concept of {model}. It has"
                f" {', '.join(known)}."
            )
        rest = re.sub(r"<[^<>\s]+>", " ", prompt)
        for name in known:
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", rest, re.IGNORECASE):
                print(
                    f"note: prompt {shown}: '{name}' is an ordinary word; the concept is <{name}>",
                    file=sys.stderr,
                )


def _tell_of_unchanged(prompts: list[str]) -> None:
    """Tell about prompts that are drawn as ever."""
    for prompt in dict.fromkeys(prompts):
        if not by_region(prompt):
            print(
                f"note: prompt {_short(prompt)}: it puts no concepts side by side, so --regional"
                " changes nothing",
                file=sys.stderr,
            )


def check_base(base: str, *, family: Family) -> None:
    """Refuse a base model's folder that is incomplete, broken or of another family."""
    from clif_exp.base_models.checks import check_pipeline_folder
    from clif_exp.base_models.spec import is_local

    if not is_local(base):
        return  # a hub id, which only loading can check
    try:
        check_pipeline_folder(Path(base).expanduser(), family="of this export", record=family)
    except ValueError as error:
        raise ValueError(str(error).replace("model.path", "base", 1)) from error


def check_lengths(
    read: Mapping[str, str], *, model: Path, base: str, revision: str | None, family: Family
) -> None:
    """Refuse prompts that the text encoder would cut.

    Args:
        read: what is read -> the prompt that it comes from.
        model: the export.
        base: the base model.
        revision: its commit, if it is on the hub.
        family: its family.
    """
    from transformers import CLIPTokenizer

    encoder = next(iter(family.encoders.values()))
    where: dict[str, Any] = {"subfolder": encoder.tokenizer, "revision": revision}
    tokenizer = CLIPTokenizer.from_pretrained(base, **where)
    lengths = count_tokens(model)
    for text, prompt in read.items():
        # Each <name> becomes as many tokens as the concept has.
        words = re.sub(r"<([^<>\s]+)>", lambda match: " a" * lengths[match[1]] + " ", text)
        if (found := len(tokenizer(words).input_ids)) > tokenizer.model_max_length:
            raise ValueError(
                f"prompt {_short(prompt)}: {'it' if text == prompt else 'a part of its image'} has"
                f" {found} tokens, start and end included; the text encoder reads"
                f" {tokenizer.model_max_length}. Shorten it"
                f"{'.' if text == prompt else ', or draw with --no-regional.'}"
            )


def check_writable(files: list[Path]) -> None:
    """Create the images' folder, and refuse one that cannot be written."""
    folder = files[0].parent
    try:
        probe_folder(folder, size=2**16)
    except OSError as error:
        raise ValueError(
            f"out: {folder} cannot be written ({error.strerror}). Choose another folder, or free"
            " some space."
        ) from error
    if taken := [file for file in files if file.is_dir()]:
        raise ValueError(f"out: {taken[0]} is a folder. Name a .png file, or another folder.")


def _short(prompt: str) -> str:
    return repr(prompt if len(prompt) <= 60 else f"{prompt[:60]}...")


if __name__ == "__main__":
    sys.exit(main())
