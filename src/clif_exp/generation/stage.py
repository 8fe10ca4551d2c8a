"""The generation stage: every prompt with every seed, once."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.files import write_bytes, write_jsonl
from clif_exp.artifacts.sharing import forget, share
from clif_exp.prompts.evaluation import EvaluationPrompt

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels

MANIFEST = "generations.jsonl"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageJob:
    """One image to be made: a prompt with a seed."""

    prompt: EvaluationPrompt
    seed: int
    noise_seed: int

    @property
    def file(self) -> str:
        return f"images/{self.prompt.id}-s{self.seed:03d}.png"


def generate(
    out: Path,
    *,
    spec: BaseModels,
    diffusion: Path | None,
    prompts: Sequence[EvaluationPrompt],
    seeds: Sequence[int],
    num_inference_steps: int,
    guidance_scale: float,
    batch_size: int,
    device: str = "cpu",
    mixed_precision: bool = True,
    finalize: bool = True,
) -> None:
    """Sample `prompts` x `seeds` into `out/images/` and describe them in `out/generations.jsonl`.

    Images that a killed run has finished are kept. The batches are cut from the full list before
    looking at what is there, and an unfinished batch is made anew as a whole: so a resumed run does
    the very same arithmetic as an undisturbed one.

    Args:
        out: folder to write into; may hold the partial work of a killed run with the same
            arguments.
        spec: base models.
        diffusion: what training published, None for the base model as it is.
        prompts: the prompt set; ids are unique.
        seeds: sampling seeds.
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance.
        batch_size: images at a time. Changes no image beyond the rounding of the arithmetic.
        device: torch device.
        mixed_precision: allow bf16 autocast on CPUs that have it in hardware.
        finalize: False contributes images to a folder that another process completes.

    Raises:
        ValueError: no seeds, repeated seeds or repeated prompt ids, or settings out of range.
    """
    _check(
        prompts,
        seeds=seeds,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        batch_size=batch_size,
    )
    from clif_exp.generation.sampling import noise_seed

    images = [
        ImageJob(prompt, seed, noise_seed(prompt.text, seed))
        for prompt in prompts
        for seed in seeds
    ]
    (out / "images").mkdir(parents=finalize, exist_ok=True)
    batches = {
        f"batch_{start:06d}": images[start : start + batch_size]
        for start in range(0, len(images), batch_size)
    }
    settings = {
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "mixed_precision": mixed_precision,
    }
    _sample_batches(out, batches, spec=spec, diffusion=diffusion, device=device, settings=settings)
    if not finalize:
        return
    forget(out)
    write_jsonl(out / MANIFEST, map(describe, images))


def describe(image: ImageJob) -> dict[str, Any]:
    """A line of `generations.jsonl`: the prompt's fields under the names that evaluation reads, the
    file and the seeds.
    """
    fields = image.prompt.to_json()
    names = {"id": "prompt_id", "text": "prompt", "class_text": "text_for_alignment"}
    line = {names.get(key, key): value for key, value in fields.items()}
    return {"file": image.file, **line, "seed": image.seed, "noise_seed": image.noise_seed}


def _sample_batches(
    out: Path,
    batches: Mapping[str, Sequence[ImageJob]],
    *,
    spec: BaseModels,
    diffusion: Path | None,
    device: str,
    settings: Mapping[str, Any],
) -> None:
    """Make the batches that are not there yet; other processes may be at it as well."""
    import io

    from PIL import Image

    from clif_exp.generation.sampling import load_customised_pipeline, sample

    pipeline: Any = None
    started, made = 0.0, 0

    def done(key: str) -> bool:
        return all((out / image.file).exists() for image in batches[key])

    def work(key: str) -> None:
        nonlocal pipeline, started, made
        if pipeline is None:
            pipeline, _ = load_customised_pipeline(spec, diffusion=diffusion, device=device)
            started = time.perf_counter()
            log.info(
                "generation: %d images, %d steps each, on %s",
                total,
                settings["num_inference_steps"],
                device,
            )
        arrays = sample(
            pipeline,
            # Not expanded: stock pipelines write placeholders of several tokens out themselves, and
            # would do it twice.
            [image.prompt.text for image in batches[key]],
            noise_seeds=[image.noise_seed for image in batches[key]],
            **settings,
        )
        for image, pixels_HWC in zip(batches[key], arrays, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(pixels_HWC).save(buffer, format="PNG")
            write_bytes(out / image.file, buffer.getvalue())
        if not made and len(batches) > 1:
            seconds = (time.perf_counter() - started) / len(batches[key])
            log.info(
                "generation: %.2f s an image, about %.0f s to go",
                seconds,
                seconds * (total - len(batches[key])),
            )
        made += 1

    total = sum(len(batch) for key, batch in batches.items() if not done(key))
    share(out, batches, done=done, work=work, description="generation")


def _check(prompts: Sequence[EvaluationPrompt], *, seeds: Sequence[int], **settings: float) -> None:
    if not seeds or len(set(seeds)) != len(seeds) or any(seed < 0 for seed in seeds):
        raise ValueError(
            f"generation.seeds: {list(seeds)} must be a non-empty list of different whole numbers"
            " from 0 up."
        )
    ids = [prompt.id for prompt in prompts]
    if len(set(ids)) != len(ids):
        repeated = sorted({name for name in ids if ids.count(name) > 1})
        raise ValueError(
            f"generation.prompts: ids {repeated} occur more than once. Every prompt needs its"
            " own id."
        )
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"generation.{name}: {value} is below 1.")
