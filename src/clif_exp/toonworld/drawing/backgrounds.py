"""Backgrounds, drawn at twice the final resolution and reduced; each style has its own finish."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from clif_exp.toonworld.drawing.colours import RGB, darker, lighter, mix
from clif_exp.toonworld.drawing.textures import smooth_noise

WHITE_CANVAS: RGB = (255, 255, 255)


class _Backdrop:
    """Draws in shares of the canvas on a double-size sheet."""

    def __init__(self, size: int) -> None:
        self.side = size * 2
        self.image = Image.new("RGB", (self.side, self.side))
        self._draw = ImageDraw.Draw(self.image)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: RGB) -> None:
        self._draw.rectangle([value * self.side for value in (x0, y0, x1, y1)], fill=colour)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: RGB) -> None:
        self._draw.ellipse(
            [value * self.side for value in (x - rx, y - ry, x + rx, y + ry)], fill=colour
        )

    def shape(self, points: list[tuple[float, float]], colour: RGB) -> None:
        self._draw.polygon([value * self.side for point in points for value in point], fill=colour)

    def hill(self, left: float, middle: float, right: float, colour: RGB) -> None:
        """Everything below a curve through three heights at x = 0, 0.5 and 1."""
        xs = np.linspace(0, 1, 17)
        ys = left * (1 - xs) * (1 - 2 * xs) + middle * 4 * xs * (1 - xs) + right * xs * (2 * xs - 1)
        self.shape([(0.0, 1.01), *zip(xs, ys, strict=True), (1.0, 1.01)], colour)

    def pine(self, x: float, y: float, high: float, leaf: RGB, cap: RGB | None = None) -> None:
        self.box(x - high * 0.05, y - high * 0.2, x + high * 0.05, y, (104, 70, 48))
        for step in range(3):
            top, wide = y - high * (0.52 + 0.24 * step), high * (0.30 - 0.06 * step)
            self.shape(
                [(x, top), (x - wide, top + high * 0.38), (x + wide, top + high * 0.38)], leaf
            )
            if cap is not None:
                self.shape(
                    [
                        (x, top),
                        (x - wide * 0.4, top + high * 0.152),
                        (x + wide * 0.4, top + high * 0.152),
                    ],
                    cap,
                )


def _clouds(
    b: _Backdrop, rng: np.random.Generator, count: int, colour: RGB = (250, 252, 255)
) -> None:
    for _ in range(count):
        x, y, s = rng.uniform(0.05, 0.95), rng.uniform(0.07, 0.3), rng.uniform(0.05, 0.08)
        b.oval(x, y, s * 1.5, s * 0.6, colour)
        b.oval(x - s * 0.4, y - s * 0.4, s * 0.7, s * 0.6, colour)
        b.oval(x + s * 0.4, y - s * 0.3, s * 0.6, s * 0.5, colour)


def _beach(b: _Backdrop, rng: np.random.Generator) -> None:
    b.box(0, 0, 1, 1, (142, 214, 246))
    b.oval(rng.uniform(0.1, 0.9), 0.15, 0.085, 0.085, (255, 238, 120))
    _clouds(b, rng, 1)
    sea = rng.uniform(0.42, 0.48)
    b.box(0, sea, 1, 1, (38, 142, 200))
    for _ in range(5):
        x, y = rng.uniform(0, 1), rng.uniform(sea + 0.03, sea + 0.14)
        b.box(x, y, x + 0.1, y + 0.008, (150, 214, 238))
    b.hill(sea + 0.24, sea + 0.20, sea + 0.23, (236, 248, 250))
    b.hill(sea + 0.26, sea + 0.22, sea + 0.25, (244, 216, 150))
    side = rng.choice([0.06, 0.94])
    b.shape(
        [(side - 0.02, 0.85), (side - 0.012, 0.36), (side + 0.012, 0.36), (side + 0.025, 0.85)],
        (142, 98, 60),
    )
    for dx, dy in (
        (-0.15, 0.05),
        (0.15, 0.05),
        (-0.11, -0.07),
        (0.11, -0.07),
        (-0.03, 0.13),
        (0.05, 0.12),
    ):
        b.shape([(side, 0.35), (side + dx * 0.6, 0.31 + dy), (side + dx, 0.38 + dy)], (44, 150, 84))


def _forest(b: _Backdrop, rng: np.random.Generator) -> None:
    b.box(0, 0, 1, 1, (120, 168, 116))
    ground = rng.uniform(0.62, 0.68)
    for x in np.linspace(0.02, 0.98, 6) + rng.uniform(-0.04, 0.04, 6):
        b.box(x - 0.022, 0.1, x + 0.022, ground + 0.04, (112, 92, 64))
        b.oval(
            x, rng.uniform(0.04, 0.2), 0.13, 0.20, mix((54, 118, 62), (40, 92, 54), rng.random())
        )
    for x in (rng.uniform(0.0, 0.12), rng.uniform(0.88, 1.0)):
        b.box(x - 0.045, 0.0, x + 0.045, ground + 0.10, (92, 64, 44))
        b.oval(x, 0.10, 0.22, 0.22, (36, 92, 50))
    b.hill(ground + 0.02, ground, ground + 0.03, (84, 110, 56))
    for _ in range(7):
        x, y = rng.uniform(0, 1), rng.uniform(ground + 0.05, 1)
        b.shape(
            [
                (x - 0.025, y),
                (x - 0.015, y - 0.05),
                (x, y - 0.015),
                (x + 0.012, y - 0.06),
                (x + 0.03, y),
            ],
            (52, 84, 42),
        )


def _desert(b: _Backdrop, rng: np.random.Generator) -> None:
    b.box(0, 0, 1, 1, (252, 222, 170))
    b.oval(rng.uniform(0.15, 0.85), 0.17, 0.10, 0.10, (255, 246, 206))
    ridge = rng.uniform(0.5, 0.58)
    b.hill(ridge, ridge + rng.uniform(-0.08, 0.1), ridge + rng.uniform(-0.06, 0.06), (222, 146, 82))
    b.hill(ridge + 0.18, ridge + rng.uniform(0.06, 0.12), ridge + 0.16, (238, 172, 98))
    x, y = rng.choice([rng.uniform(0.04, 0.14), rng.uniform(0.86, 0.96)]), ridge + 0.16
    leaf = (58, 128, 76)
    b.box(x - 0.025, y - 0.30, x + 0.025, y, leaf)
    b.oval(x, y - 0.30, 0.025, 0.025, leaf)
    b.box(x - 0.075, y - 0.15, x, y - 0.12, leaf)
    b.box(x - 0.085, y - 0.22, x - 0.055, y - 0.12, leaf)
    b.box(x, y - 0.19, x + 0.075, y - 0.16, leaf)
    b.box(x + 0.055, y - 0.26, x + 0.085, y - 0.16, leaf)


def _snow(b: _Backdrop, rng: np.random.Generator) -> None:
    b.box(0, 0, 1, 1, (176, 206, 232))
    ground = rng.uniform(0.58, 0.64)
    b.shape([(0, ground), (0.2, 0.26), (0.42, ground), (0.66, 0.20), (1, ground)], (142, 168, 204))
    b.shape([(0.13, 0.38), (0.2, 0.26), (0.256, 0.36)], (248, 250, 255))
    b.shape([(0.56, 0.37), (0.66, 0.20), (0.78, 0.35)], (248, 250, 255))
    for x in (rng.uniform(0.02, 0.12), rng.uniform(0.86, 0.98), rng.uniform(0.3, 0.7)):
        b.pine(x, ground + 0.06, rng.uniform(0.3, 0.42), (58, 106, 100), (246, 250, 255))
    b.hill(ground + 0.05, ground, ground + 0.04, (240, 245, 252))
    for x, y in rng.uniform(0, 1, (22, 2)):
        b.oval(x, y * 0.7, 0.009, 0.009, (255, 255, 255))


def _street(b: _Backdrop, rng: np.random.Generator) -> None:
    b.box(0, 0, 1, 1, (190, 218, 234))
    kerb = rng.uniform(0.64, 0.69)
    x = -rng.uniform(0, 0.1)
    paints = [(192, 110, 92), (216, 184, 138), (134, 150, 172), (176, 136, 130), (150, 166, 142)]
    turn = int(rng.integers(5))
    while x < 1:
        wide, top = rng.uniform(0.22, 0.32), rng.uniform(0.05, 0.26)
        paint = paints[turn % 5]
        turn += 1
        b.box(x, top, x + wide, kerb, paint)
        b.box(x, top, x + wide, top + 0.02, darker(paint, 0.3))
        for wx in np.arange(x + 0.035, x + wide - 0.05, 0.082):
            for wy in np.arange(top + 0.06, kerb - 0.1, 0.125):
                b.box(
                    wx,
                    wy,
                    wx + 0.048,
                    wy + 0.07,
                    (248, 232, 164) if rng.random() < 0.4 else (92, 116, 146),
                )
        x += wide
    b.box(0, kerb, 1, kerb + 0.05, (186, 184, 180))
    b.box(0, kerb + 0.05, 1, 1, (104, 106, 114))
    for x in np.arange(-rng.uniform(0, 0.2), 1, 0.26):
        b.box(x, 0.885, x + 0.14, 0.905, (236, 230, 206))


def _room(b: _Backdrop, rng: np.random.Generator) -> None:
    wall = [(234, 206, 184), (198, 216, 208), (214, 204, 228)][int(rng.integers(3))]
    floor = rng.uniform(0.68, 0.73)
    b.box(0, 0, 1, 1, wall)
    for x in np.arange(0.0, 1, 0.125):
        b.box(x, 0, x + 0.055, floor, lighter(wall, 0.25))
    x = rng.choice([0.06, 0.62])
    b.box(x, 0.10, x + 0.32, 0.46, (250, 246, 238))
    b.box(x + 0.02, 0.12, x + 0.30, 0.44, (156, 210, 240))
    b.box(x + 0.152, 0.12, x + 0.168, 0.44, (250, 246, 238))
    b.box(x + 0.02, 0.272, x + 0.30, 0.288, (250, 246, 238))
    p = 0.78 if x < 0.3 else 0.20
    b.box(p - 0.09, 0.15, p + 0.09, 0.38, (128, 86, 58))
    b.box(p - 0.07, 0.17, p + 0.07, 0.36, (244, 232, 202))
    b.oval(
        p,
        0.265,
        0.045,
        0.06,
        [(212, 108, 96), (98, 150, 120), (104, 124, 190)][int(rng.integers(3))],
    )
    b.box(0, floor, 1, 1, (178, 126, 84))
    b.box(0, floor - 0.03, 1, floor, (250, 246, 238))
    for y in (floor + 0.07, floor + 0.16, floor + 0.26):
        b.box(0, y, 1, y + 0.008, (152, 104, 68))
    b.oval(0.5, 0.92, 0.42, 0.075, (150, 92, 110))
    b.oval(0.5, 0.92, 0.36, 0.058, (196, 140, 150))


def _meadow(b: _Backdrop, rng: np.random.Generator) -> None:
    b.box(0, 0, 1, 1, (150, 208, 248))
    _clouds(b, rng, 2)
    ridge = rng.uniform(0.52, 0.58)
    b.hill(ridge, ridge + rng.uniform(-0.08, 0.04), ridge + 0.05, (142, 202, 104))
    b.hill(ridge + 0.12, ridge + 0.08, ridge + rng.uniform(0.04, 0.12), (112, 184, 82))
    petals = [(255, 255, 255), (250, 214, 70), (240, 120, 150), (190, 120, 220)]
    for x, y in rng.uniform(0, 1, (20, 2)):
        y = ridge + 0.16 + y * (0.82 - ridge)
        b.oval(x, y, 0.017, 0.017, petals[int(rng.integers(4))])
        b.oval(x, y, 0.007, 0.007, (250, 190, 50))


def _night(b: _Backdrop, rng: np.random.Generator) -> None:
    b.box(0, 0, 1, 1, (30, 36, 84))
    b.box(0, 0.3, 1, 1, (44, 48, 104))
    for x, y in rng.uniform(0, 1, (26, 2)):
        r = rng.uniform(0.005, 0.011)
        b.oval(x, y * 0.6, r, r, (252, 248, 214))
    x = rng.uniform(0.12, 0.88)
    b.oval(x, 0.16, 0.085, 0.085, (250, 240, 190))
    b.oval(x + 0.035, 0.145, 0.07, 0.07, (30, 36, 84))
    ridge = rng.uniform(0.58, 0.64)
    b.hill(ridge, ridge + rng.uniform(-0.06, 0.08), ridge, (34, 58, 78))
    b.hill(ridge + 0.12, ridge + 0.08, ridge + 0.11, (42, 78, 84))


_PAINTERS = {
    "beach": _beach,
    "forest": _forest,
    "desert": _desert,
    "snow": _snow,
    "street": _street,
    "room": _room,
    "meadow": _meadow,
    "night": _night,
}


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """A photograph's grain and mottled ground, around 0, float32 [1024, 1024]."""
    noise = np.random.default_rng(9).standard_normal((2, 1024, 1024)).astype(np.float32)
    return 0.04 * smooth_noise(noise[0], 2, 2) + 0.035 * smooth_noise(noise[1], 7, 9)


@lru_cache(maxsize=8)
def _ramp(size: int) -> np.ndarray:
    """Light that falls from the upper left, float32 [size, size, 1]."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    return (1.12 - 0.22 * y - 0.10 * x)[..., None]


@lru_cache(maxsize=8)
def _vignette(size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    return (1.04 - 0.55 * (x * x + y * y))[..., None]


def draw_background(
    context: str, style: str, *, size: int, rng: np.random.Generator
) -> Image.Image:
    """Draw an empty place, RGB [size, size]."""
    if context == "white":
        return Image.new("RGB", (size, size), WHITE_CANVAS)
    backdrop = _Backdrop(size)
    _PAINTERS[context](backdrop, rng)
    image = backdrop.image.reduce(2)
    if style == "flat":
        return image
    if style == "shaded":
        soft = np.asarray(image.filter(ImageFilter.BoxBlur(size / 128 * 1.6)), np.float32)
        return Image.fromarray(np.clip(soft * _ramp(size), 0, 255).astype(np.uint8))
    soft = np.asarray(image.filter(ImageFilter.BoxBlur(size / 128 * 1.0)), np.float32)
    dx, dy = rng.integers(0, 1024 - size, 2)
    grain = _grain()[dy : dy + size, dx : dx + size, None]
    grey = soft.mean(2, keepdims=True)
    return Image.fromarray(
        np.clip((soft * 0.66 + grey * 0.28) * (_vignette(size) + grain), 0, 255).astype(np.uint8)
    )
