"""Sample grids at fixed prompts and seeds while stage 2 trains, step 0 included."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from clif_exp.training.live import show_images
from clif_exp.training.steps import ends_step


def sample_prompts(names: Sequence[str], *, limit: int = 4) -> list[str]:
    """Return the fixed prompts: each concept alone (the first `limit`) and the first pairs."""
    prompts = [f"a photo of <{name}>" for name in names[:limit]]
    pairs = [
        f"a photo of <{a}> on the left and <{b}> on the right" for a, b in itertools.pairwise(names)
    ]
    return prompts + pairs[: max(1, limit - 1)]


class SampleGrids(Callback):
    """Writes `step_NNNNNN.png`: one row of images, a column per prompt of `prompts.txt`."""

    def __init__(
        self,
        pipeline: Any,
        *,
        prompts: Sequence[str],
        folder: Path,
        every: int,
        num_inference_steps: int,
        guidance_scale: float,
        batch_size: int,
    ) -> None:
        """Keep what to draw.

        Args:
            pipeline: the stock pipeline around the U-Net in training.
            prompts: with placeholders.
            folder: for the grids.
            every: steps between grids; 0 writes those of step 0 and the last step only.
            num_inference_steps: of the sampler.
            guidance_scale: of the sampler.
            batch_size: images at a time.
        """
        self.pipeline, self.prompts, self.folder = pipeline, list(prompts), folder
        self.every, self.batch_size = every, batch_size
        self.num_inference_steps, self.guidance_scale = num_inference_steps, guidance_scale

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw what the untrained model draws."""
        if trainer.global_step == 0:
            self._write(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, _outputs: Any, batch: Any, _index: int
    ) -> None:
        """Draw where a grid is due; the last one is drawn when training has ended."""
        if (
            self.every
            and ends_step(batch)
            and trainer.global_step % self.every == 0
            and trainer.global_step < trainer.max_steps
        ):
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw what is published."""
        if trainer.global_step == trainer.max_steps:
            self._write(trainer, pl_module)

    def _write(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw and write one grid; every rank draws its share of the columns."""
        from PIL import Image

        parts = {
            name: part
            for name, part in self.pipeline.components.items()
            if isinstance(part, torch.nn.Module)
        }
        homes: dict[str, Any] = {name: part.device for name, part in parts.items()}
        self.pipeline.to(pl_module.device)
        with pl_module.averaged():
            for embeddings in pl_module.embeddings.values():
                embeddings.write_back()
            own = range(trainer.global_rank, len(self.prompts), trainer.world_size)
            batches = (
                own[start : start + self.batch_size]
                for start in range(0, len(own), self.batch_size)
            )
            drawn = [image for batch in batches for image in self._draw(trainer, batch)]
        for embeddings in pl_module.embeddings.values():
            embeddings.write_back()
        for name, part in parts.items():
            part.to(homes[name])  # what training does not need may wait elsewhere
        images = _gathered(trainer, drawn, total=len(self.prompts))
        if not trainer.is_global_zero:
            return
        width, height = images[0].size
        grid = Image.new("RGB", (width * len(images), height), "white")
        for column, image in enumerate(images):
            grid.paste(image, (column * width, 0))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "prompts.txt").write_text("\n".join(self.prompts) + "\n")
        file = self.folder / f"step_{trainer.global_step:06d}.png"
        grid.save(file)
        show_images(trainer, self.folder.name, [file])

    @torch.no_grad()
    def _draw(self, trainer: L.Trainer, numbers: Sequence[int]) -> list[Any]:
        """Draw some of the prompts, each from its own seed."""
        prompts = [self.prompts[number] for number in numbers]
        generators = [torch.Generator().manual_seed(number) for number in numbers]
        with trainer.precision_plugin.forward_context():
            return self.pipeline(
                prompt=prompts,
                generator=generators,
                num_inference_steps=self.num_inference_steps,
                guidance_scale=self.guidance_scale,
            ).images


def _gathered(trainer: L.Trainer, own: list[Any], *, total: int) -> list[Any]:
    """Return all ranks' images in the order of the prompts on rank 0, `own` on others."""
    if trainer.world_size == 1:
        return own
    import torch.distributed as dist

    of_all_ranks: list[Any] | None = [None] * trainer.world_size if trainer.is_global_zero else None
    dist.gather_object(own, of_all_ranks)
    return (
        own
        if of_all_ranks is None
        else [
            of_all_ranks[number % trainer.world_size][number // trainer.world_size]
            for number in range(total)
        ]
    )
