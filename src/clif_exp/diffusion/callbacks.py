"""What watches stage 2 while it trains: averages, the loss at fixed noise, grids of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.diffusion.batches import MixedBatches
from clif_exp.diffusion.module import WeightAverage
from clif_exp.diffusion.samples import SampleGrids, sample_prompts
from clif_exp.diffusion.validation import FixedLoss, fixed_batch

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.diffusion.settings import DiffusionSettings


def training_callbacks(
    pipeline: Any,
    concepts: ConceptSet,
    *,
    batches: MixedBatches,
    out: Path,
    settings: DiffusionSettings,
) -> list[Callback]:
    """Return the callbacks; the average comes first, as the others show what would be published."""
    callbacks: list[Callback] = [WeightAverage()] if settings.ema_decay else []
    if (validation := settings.validation) is not None:
        fixed = fixed_batch(
            batches.images,
            batches.latents_NCHW,
            captions=batches.captions,
            count=validation.images,
            timesteps=validation.timesteps,
            num_timesteps=batches.num_timesteps,
        )
        callbacks.append(
            FixedLoss(fixed, every=validation.every, batch_size=batches.size // batches.shares)
        )
    if (samples := settings.samples) is not None:
        callbacks.append(
            SampleGrids(
                pipeline,
                prompts=sample_prompts([concept.name for concept in concepts.concepts]),
                folder=out / "samples",
                every=samples.every,
                num_inference_steps=samples.num_inference_steps,
                guidance_scale=samples.guidance_scale,
                batch_size=samples.batch_size,
            )
        )
    return callbacks
