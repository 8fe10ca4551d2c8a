"""What a training stage tells those who watch it, besides what it stores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from clif_exp.artifacts.memory import peak_memory_mb
from clif_exp.training.steps import ends_step


class LiveMetrics(Callback):
    """Adds the gradient's norm to a step's metrics; with loggers, what depends on the hardware too.

    That is `images_per_second`, `peak_memory_mb` (a GPU's, or the process's), and the learning
    rate of every group of weights, if there are several, as `lr/<name>`. It comes before all other
    callbacks, and `restart` after them: drawing samples does not count as training.
    """

    def __init__(self, images_per_step: int) -> None:
        """Start.

        Args:
            images_per_step: over all ranks.
        """
        self.images_per_step, self.since = images_per_step, 0.0
        self.norm: torch.Tensor | None = None
        self.rates: dict[str, float] = {}

    def restart(self) -> None:
        """A step begins."""
        self.since = time.perf_counter()

    def on_train_start(self, _trainer: L.Trainer, _module: L.LightningModule) -> None:
        """The first step begins."""
        self.restart()

    def on_before_optimizer_step(
        self, _trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any
    ) -> None:
        """Measure the gradient, before it is clipped."""
        self.norm = torch.nn.utils.get_total_norm(
            [p.grad for p in pl_module.parameters() if p.grad is not None]
        )
        groups = optimizer.param_groups
        self.rates = {
            f"lr/{group.get('name', number)}": group["lr"]
            for number, group in enumerate(groups if len(groups) > 1 else ())
        }

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, _index: int
    ) -> None:
        """Add them to the metrics of the step that has ended."""
        if not ends_step(batch):
            return
        metrics = outputs["metrics"]
        if self.norm is not None:
            metrics["gradient_norm"] = float(self.norm)
        if trainer.loggers:
            seconds = max(time.perf_counter() - self.since, 1e-9)
            metrics["images_per_second"] = self.images_per_step / seconds
            metrics["peak_memory_mb"] = _peak_memory_mb(pl_module.device)
            metrics.update(self.rates)


def show_images(trainer: L.Trainer, name: str, files: Sequence[Path]) -> None:
    """Send image files of this step to the loggers that take any."""
    for logger in trainer.loggers:
        if (log_image := getattr(logger, "log_image", None)) is not None:
            log_image(name, [str(file) for file in files], step=trainer.global_step)


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return peak_memory_mb()
