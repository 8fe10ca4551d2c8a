"""What stage 2 sees of a photograph: a square, and in a shared photograph one concept only.

Photographs are scaled and cropped to a square around their centre. Where a user has marked a
concept's place (a mask, a box, a point), the square lies around what curation has found there; and
where two concepts are marked in one photograph, each is shown without the other: the caption of
either would be true of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from clif_exp.artifacts.files import read_jsonl
from clif_exp.concepts.images import load_grey_mask

if TYPE_CHECKING:
    from clif_exp.concepts.concept import ConceptImage

Key = tuple[str, int]  # a concept, and the number of its image
Box = tuple[float, float, float, float]  # (x0, y0, x1, y1), px of the upright image


@dataclass(frozen=True)
class Segment:
    """A concept in one of its images, as curation has found it.

    Attributes:
        mask: of the whole concept.
        box: around it.
    """

    mask: Path
    box: Box


@dataclass(frozen=True)
class Frame:
    """What is shown of a photograph.

    Attributes:
        box: around the concept, which the square is laid around; None: around the centre.
        only: mask of what is shown, on white; None: everything.
    """

    box: Box | None = None
    only: Path | None = None

    def show(self, image: Image.Image) -> Image.Image:
        """Return an image, RGB, without what is not shown of it."""
        if self.only is None:
            return image
        mask = load_grey_mask(self.only)
        return Image.composite(image, Image.new("RGB", image.size, (255, 255, 255)), mask)

    def square(self, image: Image.Image, side: int, *, resampling: Image.Resampling) -> Image.Image:
        """Return the square of an image, or of its mask, in `side` px."""
        return ImageOps.fit(image, (side, side), resampling, centering=self._centering(image.size))

    def _centering(self, size: tuple[int, int]) -> tuple[float, float]:
        """Return how much of what is cut lies to the left, and above, in [0, 1]."""
        if self.box is None:
            return (0.5, 0.5)
        x0, y0, x1, y1 = self.box
        side = min(size)

        def before(length: int, middle: float) -> float:
            spare = length - side
            return min(max((middle - side / 2) / spare, 0.0), 1.0) if spare else 0.5

        return (before(size[0], (x0 + x1) / 2), before(size[1], (y0 + y1) / 2))


WHOLE = Frame()


def read_segments(folder: Path) -> dict[Key, Segment]:
    """Return what curation has found of each concept as a whole."""
    return {
        (line["concept"], line["image"]): Segment(Path(folder) / line["mask"], tuple(line["box"]))
        for line in read_jsonl(folder / "segments.jsonl")
        if line["kind"] == "whole"
    }


def frame_of(image: ConceptImage, segment: Segment | None) -> Frame:
    """Return the frame of an image.

    Args:
        image: of a concept set.
        segment: what curation has found in it, if anything.
    """
    if not image.marked:
        return WHOLE
    mask = image.mask or (segment.mask if segment else None)
    return Frame(
        box=segment.box if segment else image.box,
        only=Path(mask) if mask and image.shared else None,
    )
