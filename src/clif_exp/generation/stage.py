"""The generation stage: every prompt with every seed, once."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.files import write_bytes, write_jsonl
from clif_exp.artifacts.sharing import forget, share
from clif_exp.generation.sampling import noise_seed
from clif_exp.prompts.evaluation import EvaluationPrompt

if TYPE_CHECKING:
    import numpy as np

    from clif_exp.base_models.spec import BaseModels
    from clif_exp.generation.guidance.applying import Guided
    from clif_exp.generation.settings import GenerationSettings

MANIFEST = "generations.jsonl"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageJob:
    """One image to draw: a prompt with a seed.

    Attributes:
        prompt: what to draw.
        seed: the sampling seed.
        noise_seed: of the initial noise.
    """

    prompt: EvaluationPrompt
    seed: int
    noise_seed: int

    @property
    def file(self) -> str:
        """The image's path below the stage's folder."""
        return f"images/{self.prompt.id}-s{self.seed:03d}.png"


def generate(
    out: Path,
    *,
    spec: BaseModels,
    diffusion: Path | None,
    prompts: Sequence[EvaluationPrompt],
    settings: GenerationSettings,
    device: str = "cpu",
    finalize: bool = True,
) -> None:
    """Sample `prompts` x `settings.seeds` into `out/images/`, listed in `out/generations.jsonl`.

    Finished images of a killed run are kept. The batches are cut from the full list before looking
    at what is there, and an unfinished batch is computed again as a whole: so a resumed run does
    the very same arithmetic as an undisturbed one.

    Args:
        out: folder to write into; may hold the partial work of a killed run with the same
            arguments.
        spec: base models.
        diffusion: what training published, None for the base model as it is.
        prompts: the prompts, each with its own id; `settings.prompts` has chosen them.
        settings: how to sample.
        device: torch device.
        finalize: False contributes images to a folder that another process completes.

    Raises:
        ValueError: a repeated prompt id.
    """
    _check_ids(prompts)
    images = [
        ImageJob(prompt, seed, noise_seed(prompt.noise_text or prompt.text, seed))
        for prompt in prompts
        for seed in settings.seeds
    ]
    (out / "images").mkdir(parents=finalize, exist_ok=True)
    size = settings.batch_size
    batches = {
        f"batch_{start:06d}": images[start : start + size] for start in range(0, len(images), size)
    }
    _sample_batches(out, batches, draw=_drawer(spec, diffusion, device, settings))
    if not finalize:
        return
    forget(out)
    write_jsonl(out / MANIFEST, [describe(image) for image in images])


def describe(image: ImageJob) -> dict[str, Any]:
    """Return an image's line of `generations.jsonl`, under the names that evaluation reads."""
    fields = image.prompt.to_json()
    names = {"id": "prompt_id", "text": "prompt", "class_text": "text_for_alignment"}
    line = {names.get(key, key): value for key, value in fields.items()}
    return {"file": image.file, **line, "seed": image.seed, "noise_seed": image.noise_seed}


def _drawer(
    spec: BaseModels, diffusion: Path | None, device: str, settings: GenerationSettings
) -> Callable[[Sequence[ImageJob]], list[np.ndarray]]:
    """Return a function that draws a batch; the model is loaded when it is first called."""
    from clif_exp.base_models import customised
    from clif_exp.generation import sampling

    pipeline: Any = None
    num_tokens: dict[str, int] = {}

    def draw(batch: Sequence[ImageJob]) -> list[np.ndarray]:
        nonlocal pipeline, num_tokens
        if pipeline is None:
            pipeline, num_tokens = customised.load_customised_pipeline(
                spec, diffusion=diffusion, device=device
            )
            log.info(
                "generation: images of %d steps each, on %s", settings.num_inference_steps, device
            )
        return sampling.sample(
            pipeline,
            [image.prompt.text for image in batch],
            noise_seeds=[image.noise_seed for image in batch],
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            mixed_precision=settings.mixed_precision,
            guided=_guided(batch, settings, num_tokens=num_tokens),
        )

    return draw


def _guided(
    batch: Sequence[ImageJob], settings: GenerationSettings, *, num_tokens: Mapping[str, int]
) -> Guided | None:
    from clif_exp.generation.guidance.applying import Guided

    if settings.guidance is None:
        return None
    prompts = [image.prompt for image in batch]
    return Guided(
        settings,
        num_tokens,
        concepts=[prompt.concepts for prompt in prompts],
        contexts=[prompt.context for prompt in prompts],
    )


def _sample_batches(
    out: Path,
    batches: Mapping[str, Sequence[ImageJob]],
    *,
    draw: Callable[[Sequence[ImageJob]], list[np.ndarray]],
) -> None:
    """Draw the batches that are not there yet, shared with other processes."""
    from PIL import Image

    first = True

    def done(key: str) -> bool:
        return all((out / image.file).exists() for image in batches[key])

    def work(key: str) -> None:
        nonlocal first
        started = time.perf_counter()
        arrays = draw(batches[key])
        for image, pixels_HWC in zip(batches[key], arrays, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(pixels_HWC).save(buffer, format="PNG")
            write_bytes(out / image.file, buffer.getvalue())
        if first and len(batches) > 1:
            seconds = (time.perf_counter() - started) / len(batches[key])
            log.info(
                "generation: %.2f s an image, about %.0f s to go",
                seconds,
                seconds * (total - len(batches[key])),
            )
        first = False

    total = sum(len(batch) for key, batch in batches.items() if not done(key))
    share(out, batches, done=done, work=work, description="generation")


def _check_ids(prompts: Sequence[EvaluationPrompt]) -> None:
    ids = [prompt.id for prompt in prompts]
    if len(set(ids)) != len(ids):
        repeated = sorted({name for name in ids if ids.count(name) > 1})
        raise ValueError(
            f"generation.prompts: ids {repeated} occur more than once. Every prompt needs its"
            " own id."
        )
