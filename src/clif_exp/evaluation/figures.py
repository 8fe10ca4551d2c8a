"""What a reader finds in an image: figures with a place, and attributes or likenesses to concepts.

Everything after the readers works on `Figure`s alone, so any detector that can fill them will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

AMBIGUOUS, NOT_VISIBLE, ABSENT = "ambiguous", "not visible", "none"


@dataclass(frozen=True)
class Figure:
    """One figure found in an image.

    Attributes:
        box: left, top, right, bottom as shares of the image's width and height.
        score: the detector's confidence in [0, 1].
        attributes: slot -> value, `none` (the part is absent), `ambiguous` or `not visible`; empty
            where only likeness is known.
        likeness: concept -> likeness in [0, 1], from a detector that compares instead of reading;
            None if it reads.
    """

    box: tuple[float, float, float, float]
    score: float = 1.0
    attributes: Mapping[str, str] = field(default_factory=dict)
    likeness: Mapping[str, float] | None = None

    @property
    def x(self) -> float:
        """Horizontal centre as a share of the image's width."""
        return (self.box[0] + self.box[2]) / 2


class FigureReader(Protocol):
    """Finds the figures of images; images may differ in size."""

    def read(self, images: Sequence[Image.Image]) -> list[list[Figure]]:
        """Return the figures of each image, in any order."""
        ...

    def embed(self, images: Sequence[Image.Image]) -> Tensor | None:
        """Return L2-normalised features [N, D] to compare by; None leaves that to the judge."""
        ...
