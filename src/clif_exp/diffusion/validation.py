"""The loss at fixed images, noise and timesteps: the training loss without its own noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from clif_exp.diffusion.images import PRIOR, TrainingImage
from clif_exp.diffusion.targets import even_timesteps
from clif_exp.training.steps import ends_step, step_generator


def fixed_images(images: Sequence[TrainingImage], *, count: int) -> list[int]:
    """Choose images evenly over singles and pairs, whatever the seed; return their indices."""
    candidates = [index for index, image in enumerate(images) if image.kind != PRIOR]
    taken = min(count, len(candidates))
    return [candidates[place * len(candidates) // taken] for place in range(taken)]


def fixed_batch(
    images: Sequence[TrainingImage],
    latents_NCHW: Tensor,
    *,
    captions: Sequence[str],
    count: int,
    timesteps: int,
    num_timesteps: int,
) -> dict[str, Tensor]:
    """Put every chosen image at every timestep, with noise that is always the same.

    Args:
        images: all training images.
        latents_NCHW: their latents.
        captions: all distinct captions.
        count: images to choose.
        timesteps: how many, evenly over the schedule.
        num_timesteps: of the schedule.

    Returns:
        What `DiffusionModule.per_image_loss` reads, without weights.
    """
    chosen = fixed_images(images, count=count)
    rows = torch.tensor(chosen).repeat_interleave(timesteps)
    latents = latents_NCHW[rows]
    numbers = {caption: index for index, caption in enumerate(captions)}
    return {
        "latents": latents,
        "noise": torch.randn(latents.shape, generator=step_generator(0, 0, stream=3)),
        "timesteps": even_timesteps(timesteps, num_timesteps=num_timesteps).repeat(len(chosen)),
        "caption_indices": torch.tensor(
            [numbers[images[row].captions[0]] for row in rows.tolist()]
        ),
    }


class FixedLoss(Callback):
    """Adds `validation_loss` to the metrics of step 0, every `every`-th step and the last one.

    It is the plain mean of Eq. 4, without masks and min-SNR, so that runs with other settings
    compare; of the averaged weights where an average is kept.
    """

    def __init__(self, batch: Mapping[str, Tensor], *, every: int, batch_size: int) -> None:
        """Keep the batch on the CPU.

        Args:
            batch: from `fixed_batch`.
            every: steps between two values.
            batch_size: images per pass.
        """
        self.batch, self.every, self.batch_size = batch, every, batch_size

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Compute the loss of the untrained model."""
        if trainer.global_step == 0:
            pl_module.first_metrics = {"validation_loss": self.loss(trainer, pl_module), "lr": 0.0}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, _index: int
    ) -> None:
        """Compute the loss where it is due."""
        if ends_step(batch) and (
            trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps
        ):
            outputs["metrics"]["validation_loss"] = self.loss(trainer, pl_module)

    @torch.no_grad()
    def loss(self, trainer: L.Trainer, pl_module: Any) -> float:
        """Return the loss over all ranks, each of which computes its share."""
        own = {
            name: value[trainer.global_rank :: trainer.world_size]
            for name, value in self.batch.items()
        }
        total = torch.zeros(2, device=pl_module.device)
        with pl_module.averaged(), trainer.precision_plugin.forward_context():
            for start in range(0, len(own["latents"]), self.batch_size):
                share = {
                    name: value[start : start + self.batch_size].to(pl_module.device)
                    for name, value in own.items()
                }
                errors = pl_module.per_image_loss(share)
                total += torch.stack(
                    [errors.sum(), torch.tensor(float(len(errors)), device=errors.device)]
                )
        summed: Any = trainer.strategy.reduce(total, reduce_op="sum")
        return (summed[0] / summed[1]).item()
