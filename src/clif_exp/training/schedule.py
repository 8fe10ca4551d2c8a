"""Learning-rate schedules."""

from __future__ import annotations

import math


def schedule_factor(step: int, *, steps: int, warmup_steps: int, schedule: str) -> float:
    """Return the learning rate's factor at a step: linear warm-up, then constant or a half cosine
    to zero.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (
        1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps)))
    )
