"""Sample grids at fixed prompts and seeds while stage 2 trains, step 0 included."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback


def sample_prompts(names: Sequence[str], *, limit: int = 4) -> list[str]:
    """Return the fixed prompts: each concept alone (the first `limit`) and the first pairs."""
    prompts = [f"a photo of <{name}>" for name in names[:limit]]
    pairs = [f"a photo of <{a}> on the left and <{b}> on the right" for a, b in itertools.pairwise(names)]
    return prompts + pairs[: max(1, limit - 1)]


class SampleGrids(Callback):
    """Writes `samples/step_NNNNNN.png`: one row of pictures, a column per prompt.

    Args:
        pipeline: the stock pipeline around the U-Net in training.
        prompts: with placeholders.
        folder: for the grids.
        every: steps between grids; 0 writes those of step 0 and the last step only.
        num_inference_steps: of the sampler.
        guidance_scale: of the sampler.
    """

    def __init__(
        self, pipeline, *, prompts: Sequence[str], folder: Path, every: int, num_inference_steps: int, guidance_scale: float
    ) -> None:
        self.pipeline, self.prompts, self.folder, self.every = pipeline, list(prompts), folder, every
        self.num_inference_steps, self.guidance_scale = num_inference_steps, guidance_scale

    def on_train_start(self, trainer: L.Trainer, pl_module) -> None:
        if trainer.global_step == 0:
            self._write(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self.every and trainer.global_step % self.every == 0 and trainer.global_step < trainer.max_steps:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module) -> None:
        if trainer.global_step == trainer.max_steps:
            self._write(trainer, pl_module)

    def _write(self, trainer: L.Trainer, pl_module) -> None:
        if not trainer.is_global_zero:
            return
        from PIL import Image

        for rows in pl_module.rows.values():
            rows.write_back()
        self.pipeline.to(pl_module.device)
        generators = [torch.Generator().manual_seed(index) for index in range(len(self.prompts))]
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            images = self.pipeline(
                prompt=self.prompts, generator=generators, num_inference_steps=self.num_inference_steps,
                guidance_scale=self.guidance_scale,
            ).images  # fmt: skip
        width, height = images[0].size
        grid = Image.new("RGB", (width * len(images), height), "white")
        for column, image in enumerate(images):
            grid.paste(image, (column * width, 0))
        self.folder.mkdir(parents=True, exist_ok=True)
        grid.save(self.folder / f"step_{trainer.global_step:06d}.png")
