"""Batches as pure functions of (seed, step): random streams, and the data set of all steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler


def step_generator(seed: int, step: int, *, stream: int = 0) -> torch.Generator:
    """Return a CPU generator that depends on its arguments only.

    Args:
        seed: of the run.
        step: of training.
        stream: separates uses within a step (data, noise, ...).
    """
    # A 64-bit mix (splitmix64's constants): neighbouring steps must not have correlated streams.
    state = (
        seed * 0x9E3779B97F4A7C15 + stream * 0xBF58476D1CE4E5B9 + step * 0x94D049BB133111EB + 1
    ) % 2**64
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
    return torch.Generator().manual_seed((state ^ (state >> 31)) % 2**63)


class Steps(Dataset[Any]):
    """The batch of every step, `parts` times in a row.

    ``batch["part"]`` is (the part of it to compute, `parts`).
    """

    def __init__(self, make_batch: Callable[[int], Any], steps: int, parts: int) -> None:
        self.make_batch, self.steps, self.parts = make_batch, steps, parts
        self.last: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return self.steps * self.parts

    def __getitem__(self, index: int) -> Any:
        step, part = divmod(index, self.parts)
        if self.last[0] != step:
            self.last = step, self.make_batch(step)
        return {**self.last[1], "part": (part, self.parts)}


def ends_step(batch: Mapping[str, Any]) -> bool:
    """Return whether the optimiser has stepped after this part of a batch."""
    part, parts = batch["part"]
    return part == parts - 1


class FromStep(Sampler[int]):
    """Indices of the batches from a step on, as `Steps` numbers them."""

    def __init__(self, start: int, steps: int, parts: int) -> None:
        self.start, self.steps, self.parts = start, steps, parts

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start * self.parts, self.steps * self.parts))

    def __len__(self) -> int:
        return self.steps * self.parts  # Lightning also counts those before the resume.
