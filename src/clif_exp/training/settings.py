"""How training runs, as opposed to what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class TrainerSettings:
    """How training runs, as opposed to what it computes.

    Args:
        accelerator: "cpu", "gpu" or "auto".
        devices: devices (or CPU processes) per node.
        strategy: Lightning's name of it: "auto", "ddp", ...
        precision: Lightning's name of it, or "auto": bf16-mixed where the hardware multiplies in
            bf16, else 32-true.
        max_time: seconds that one training stage may take in this process, or None.
        num_workers: data loader processes.
        checkpoint_every_n_steps: steps between checkpoints.
        progress: show a progress bar.
        loggers: Lightning loggers.
        num_nodes: machines.
    """

    accelerator: str = "cpu"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "auto"
    max_time: float | None = None
    num_workers: int = 0
    checkpoint_every_n_steps: int = 100
    progress: bool = False
    loggers: Sequence[Any] = field(default_factory=tuple)
    num_nodes: int = 1

    @property
    def device(self) -> str:
        """The torch device type that training will use: "cuda" or "cpu"."""
        wants_gpu = self.accelerator in ("gpu", "cuda") or (
            self.accelerator == "auto" and torch.cuda.is_available()
        )
        return "cuda" if wants_gpu else "cpu"
