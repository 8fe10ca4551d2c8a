"""Noise for fur, cloth and skin, and the tiles of cloth patterns; made once and kept."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

# textures are twice as wide, so that a window of this size fits at any offset up to half of it
TEXTURE_SIDE = 512


def smooth_noise(noise: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Average noise over wrapped windows, keeping its spread."""
    for axis, width in ((0, rows), (1, columns)):
        noise = sum(np.roll(noise, shift, axis) for shift in range(width)) / np.sqrt(width)
    return noise


@lru_cache(maxsize=1)
def textures() -> np.ndarray:
    """Fur, cloth and smooth grain around 0, float32 [3, side, side]."""
    rng = np.random.default_rng(7)
    side = TEXTURE_SIDE * 2
    noise = rng.standard_normal((3, side, side)).astype(np.float32)
    fur = 0.11 * smooth_noise(noise[0], 12, 3) + 0.05 * smooth_noise(noise[1], 20, 20)
    y, x = np.mgrid[:side, :side]
    cloth = (
        0.05 * np.sin((x + y) * 2 * np.pi / 10)
        + 0.07 * smooth_noise(noise[1], 3, 9)
        + 0.04 * smooth_noise(noise[2], 24, 24)
    )
    skin = 0.035 * smooth_noise(noise[2], 4, 4) + 0.025 * smooth_noise(noise[0], 24, 24)
    return np.stack([fur, cloth, skin]).astype(np.float32)


@lru_cache(maxsize=1)
def wobble() -> np.ndarray:
    """Displacements in pixels, float32 [2, side, side]."""
    noise = (
        np.random.default_rng(8)
        .standard_normal((2, TEXTURE_SIDE * 2, TEXTURE_SIDE * 2))
        .astype(np.float32)
    )
    return np.stack([smooth_noise(noise[0], 3, 3), smooth_noise(noise[1], 3, 3)]) * 2.2


@lru_cache(maxsize=128)
def pattern_tile(pattern: str, side: int) -> np.ndarray:
    """True where the second colour goes, bool [side, side]."""
    tile = Image.new("1", (side, side))
    draw = ImageDraw.Draw(tile)
    if pattern == "striped":
        draw.rectangle((0, 0, side, side * 0.46), fill=1)
    elif pattern == "checked":
        draw.rectangle((0, 0, side / 2 - 1, side / 2 - 1), fill=1)
        draw.rectangle((side / 2, side / 2, side, side), fill=1)
    elif pattern == "dotted":
        radius = side * 0.21
        for cx, cy in ((0.25, 0.25), (0.75, 0.75)):
            draw.ellipse(
                (cx * side - radius, cy * side - radius, cx * side + radius, cy * side + radius),
                fill=1,
            )
    else:
        assert pattern == "starred", pattern
        side = int(side * 1.25)
        tile = Image.new("1", (side, side))
        angles = np.radians(np.arange(10) * 36 - 90)
        radii = np.where(np.arange(10) % 2 == 0, 0.42, 0.18) * side
        ImageDraw.Draw(tile).polygon(
            np.stack([side / 2 + radii * np.cos(angles), side / 2 + radii * np.sin(angles)], 1)
            .ravel()
            .tolist(),
            fill=1,
        )
    return np.asarray(tile)
