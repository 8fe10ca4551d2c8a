"""What augmented images can show, and where: cut-outs, and places whose aspect is still unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clif_exp.curation.settings import PairSettings


@dataclass(frozen=True)
class Cutout:
    """A cut-out image that can be placed.

    `file` is relative to its artifact, `root` says which: segments or contexts.
    """

    file: str
    root: Literal["segments", "contexts"]
    width: int
    height: int
    concept: str | None = None
    context: str | None = None
    part: str | None = None


@dataclass(frozen=True)
class Library:
    """Everything that can be placed, in a fixed order."""

    wholes: Mapping[str, tuple[Cutout, ...]]  # concept -> its images
    parts: Mapping[tuple[str, str], tuple[Cutout, ...]]  # (concept, part) -> its images
    contexts: tuple[Cutout, ...] = ()
    context_parts: tuple[Cutout, ...] = ()
    backgrounds: tuple[tuple[str, str], ...] = ()  # (file, phrase)


@dataclass(frozen=True)
class Place:
    """Size and position of a figure whose aspect is still unknown: shares of what fits, [0, 1]."""

    scale: float
    x: float
    y: float
    flip: bool


def draw_place(rng: np.random.Generator, settings: PairSettings) -> Place:
    """Draw a size, a position and whether a figure is mirrored."""
    scale, x, y, flip = rng.random(4)
    low, high = settings.scale
    top, bottom = settings.vertical
    return Place(
        round(float(low + (high - low) * scale), 4),
        float(x),
        float(top + (bottom - top) * y),
        bool(flip < settings.flip),
    )
