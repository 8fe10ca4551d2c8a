"""The learning-rate schedule of both training stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["constant", "cosine", "linear"]
"""After the warm-up: as it is, half a cosine to zero, or straight to zero."""


def learning_rate_schedule(
    optimizer: Optimizer, *, schedule: Schedule, steps: int, warmup_steps: int
) -> LambdaLR:
    """Return diffusers' schedule of a name, without the step at a learning rate of 0.

    Args:
        optimizer: its groups' "lr" are the peaks.
        schedule: after a linear warm-up.
        steps: optimiser steps in all.
        warmup_steps: the factor at step s below it is (s + 1) / (warmup_steps + 1).
    """
    from diffusers.optimization import get_scheduler

    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    # diffusers' warm-up starts with a factor of 0, which would waste the first step: begin at the
    # second step (last_epoch=0) of a warm-up that is longer by one.
    return get_scheduler(
        "constant_with_warmup" if schedule == "constant" else schedule,
        optimizer,
        num_warmup_steps=warmup_steps + 1,
        num_training_steps=steps + 1,
        last_epoch=0,
    )
