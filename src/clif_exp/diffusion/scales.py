"""Custom Diffusion's scale augmentation (Kumari et al. 2023, appendix; as in the released code)."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_SMALL = 0.6  # below this share of the side the image is pasted on grey, else it fills it
_FAR = ("a far away ", "very small ")
_NEAR = ("zoomed in ", "close up ")
_GREY = 128


@dataclass(frozen=True)
class Placement:
    """An image at another scale, in a square of the same size.

    Attributes:
        scale: of the image's side, relative to the square's.
        x: where the image (or, above 1, the crop) lies within its room, in [0, 1].
        y: the same, from the top.
    """

    scale: float
    x: float
    y: float

    def apply(self, image: Image.Image, *, fill: int = _GREY) -> Image.Image:
        """Return a square image at this scale, as large as before.

        Args:
            image: square.
            fill: grey value around a small one.
        """
        side = image.width
        inner = self._inner(side)
        if self.scale > 1:
            scaled = image.resize((inner, inner), Image.Resampling.BILINEAR)
            left, top = round(self.x * (inner - side)), round(self.y * (inner - side))
            return scaled.crop((left, top, left + side, top + side))
        if self.scale >= _SMALL:
            return image
        colour = fill if image.mode == "L" else (fill, fill, fill)
        square = Image.new(image.mode, (side, side), colour)
        left, top, _ = self._box(side)
        square.paste(image.resize((inner, inner), Image.Resampling.BILINEAR), (left, top))
        return square

    def visible(self, side: int, latent_size: tuple[int, int]) -> Tensor:
        """Return where the loss counts: float32 [1, h, w], 1 inside a small image, else 0.

        The box is one latent cell smaller on each side: cells on the edge see grey.
        """
        height, width = latent_size
        if self.scale >= _SMALL:
            return torch.ones(1, height, width)
        left, top, inner = self._box(side)
        cell_x, cell_y = side / width, side / height
        x = (np.arange(width) >= left / cell_x + 1) & (
            np.arange(width) + 1 <= (left + inner) / cell_x - 1
        )
        y = (np.arange(height) >= top / cell_y + 1) & (
            np.arange(height) + 1 <= (top + inner) / cell_y - 1
        )
        inside = y[:, None] & x[None]
        if not inside.any():  # a tiny latent grid: the cell in the middle
            middle = (top + inner / 2) / cell_y, (left + inner / 2) / cell_x
            inside[min(int(middle[0]), height - 1), min(int(middle[1]), width - 1)] = True
        return torch.from_numpy(inside[None].astype(np.float32))

    def caption(self, caption: str, rng: random.Random) -> str:
        """Say of a caption that its image is small, or cut out."""
        if self.scale > 1:
            return rng.choice(_NEAR) + caption
        return rng.choice(_FAR) + caption if self.scale < _SMALL else caption

    def _inner(self, side: int) -> int:
        return max(1, round(self.scale * side))

    def _box(self, side: int) -> tuple[int, int, int]:
        inner = self._inner(side)
        return round(self.x * (side - inner)), round(self.y * (side - inner)), inner


def draw_placement(rng: random.Random) -> Placement:
    """Draw a scale: two thirds of the time from [1/3, 1], else from [1.2, 1.4]."""
    scale = rng.uniform(1 / 3, 1) if rng.random() < 2 / 3 else rng.uniform(1.2, 1.4)
    return Placement(scale, rng.random(), rng.random())
