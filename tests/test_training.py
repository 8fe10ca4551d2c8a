"""Both training stages' trainer: the learning-rate schedule."""

from __future__ import annotations

import math

import pytest
import torch

from clif_exp.training.schedule import learning_rate_schedule


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(("steps", "warmup_steps"), [(12, 0), (12, 5), (4, 9), (1, 0), (250, 10)])
def test_the_schedule_warms_up_from_its_first_step_and_ends_as_named(schedule, steps, warmup_steps):
    peaks = (5e-3, 1e-4)
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in peaks]
    groups = [{"params": [weight], "lr": peak} for weight, peak in zip(weights, peaks, strict=True)]
    optimizer = torch.optim.AdamW(groups)
    scheduler = learning_rate_schedule(
        optimizer, schedule=schedule, steps=steps, warmup_steps=warmup_steps
    )
    for step in range(steps):
        if step < warmup_steps:
            factor = (step + 1) / (warmup_steps + 1)
        elif schedule == "constant":
            factor = 1.0
        else:
            done = (step - warmup_steps) / (steps - warmup_steps)
            factor = 0.5 * (1 + math.cos(math.pi * done))
        assert [group["lr"] for group in optimizer.param_groups] == [
            peak * factor for peak in peaks
        ], f"bit for bit at step {step}"
        optimizer.step()
        scheduler.step()
