"""The interface of segmenters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Proposals:
    """Candidate masks of one image.

    Args:
        masks_NHW: bool [N, H, W] in px of the image; N may be 0.
        scores_N: the segmenter's own confidence, float32 [N] in [0, 1].
    """

    masks_NHW: np.ndarray
    scores_N: np.ndarray

    @staticmethod
    def none(height: int, width: int) -> Proposals:
        """Nothing found."""
        return Proposals(np.zeros((0, height, width), bool), np.zeros(0, np.float32))


class Segmenter(Protocol):
    """Anything that proposes masks. `name` goes into manifests and messages."""

    name: str

    def propose(self, images: Sequence[np.ndarray]) -> list[Proposals]:
        """Find masks of things and of their parts for uint8 RGB images [H, W, 3] of any size."""
        ...

    def prompt(
        self,
        image: np.ndarray,
        *,
        point: tuple[int, int] | None = None,
        box: tuple[int, int, int, int] | None = None,
    ) -> Proposals:
        """Find masks of what lies at a point or in a box (px), best first."""
        ...
