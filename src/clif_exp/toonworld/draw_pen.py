"""A pen that draws shapes into colour and shape-number planes, and the three styles that turn those into a picture.

Shapes are polygons in figure units: feet at (0, 0), crown at (0, -1), x to the viewer's right. The planes are drawn at
`SUPERSAMPLING` times the final resolution without smoothing; reducing them smooths the edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from clif_exp.toonworld.world import COLOURS, PARTS

SUPERSAMPLING = 3
INK = (38, 30, 36)
RGB = tuple[int, int, int]
Point = tuple[float, float]
FUR, CLOTH, SMOOTH = 0, 1, 2
_LIGHT = np.array([-0.42, -0.58, 0.70], np.float32)
_TEXTURE_SIDE = 512
_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 28, endpoint=False)), np.sin(np.linspace(0, 2 * np.pi, 28, endpoint=False))], 1)


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """`first` with `share` of it replaced by `second`."""
    return tuple(int(a + (b - a) * share) for a, b in zip(first, second, strict=True))


def darker(colour: RGB, share: float = 0.3) -> RGB:
    return mix(colour, (20, 14, 24), share)


def lighter(colour: RGB, share: float = 0.5) -> RGB:
    return mix(colour, (255, 252, 246), share)


def luminance(colour: RGB) -> float:
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def pattern_colour(colour: RGB) -> RGB:
    """The second colour of a patterned cloth: the one that shows on it."""
    return COLOURS["white"] if luminance(colour) < 178 else (70, 72, 92)


@dataclass(frozen=True)
class Material:
    """What a shape is painted with."""

    colour: RGB
    part: str
    texture: int = SMOOTH
    pattern: str = "plain"


class Pen:
    """Draws one figure or item onto its own transparent sheet.

    Args:
        size: width and height of the sheet in final pixels.
        unit: final pixels per figure unit (the height of the figure).
        origin: where the figure's (0, 0) lies on the sheet, in final pixels.
        flip: mirror everything left to right.
    """

    def __init__(self, size: tuple[int, int], *, unit: float, origin: Point, flip: bool = False) -> None:
        wide, high = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
        self.unit = unit * SUPERSAMPLING
        self.flip = flip
        self._rgb = Image.new("RGB", (wide, high))
        self._ids = Image.new("L", (wide, high))
        self._draw_rgb, self._draw_ids = ImageDraw.Draw(self._rgb), ImageDraw.Draw(self._ids)
        self._scale = np.array([-self.unit if flip else self.unit, self.unit])
        self._origin = np.array(origin) * SUPERSAMPLING
        self.shift: Point = (0.0, 0.0)
        self.materials: list[Material] = []
        self._groups: list[int] = [0]
        self._normals: list[tuple[float, ...]] = [(0.0,) * 6]

    def _pixels(self, points: Sequence[Point] | np.ndarray) -> np.ndarray:
        return (np.asarray(points) + self.shift) * self._scale + self._origin

    def polygon(self, points: Sequence[Point] | np.ndarray, material: Material, *, joined: bool = False,
                axes: tuple[Point, Point, Point] | None = None) -> None:
        """Fill a polygon. `joined` shapes share the outline of the shape before them.

        Args:
            points: corners in figure units, [N, 2].
            axes: centre, half axis and other half axis of the ellipse that stands for its roundness; from the bounding
                box when missing.
        """
        pixels = self._pixels(points)
        self.materials.append(material)
        number = len(self.materials)
        assert number < 256, "a figure has at most 255 shapes"
        flat = pixels.ravel().tolist()
        self._draw_rgb.polygon(flat, fill=material.colour)
        self._draw_ids.polygon(flat, fill=number)
        self._groups.append(self._groups[-1] if joined and number > 1 else number)
        if axes is None:
            low, high = pixels.min(0), pixels.max(0)
            (cx, cy), (rx, ry) = (low + high) / 2, np.maximum((high - low) / 2, 1)
            self._normals.append((1 / rx, 0.0, -cx / rx, 0.0, 1 / ry, -cy / ry))
        else:
            self._normals.append(self._rotated_normals(*axes))

    def _rotated_normals(self, centre: Point, along: Point, across: Point) -> tuple[float, ...]:
        cx, cy = self._pixels([centre])[0]
        basis = np.array([along, across]).T * self._scale[:, None]
        (a, b), (c, d) = basis
        det = a * d - b * c or 1.0
        # Normals in picture axes: the ellipse's own coordinates turned back by its (orthonormal) directions.
        inverse = np.array([[d, -b], [-c, a]]) / det
        turn = basis / np.maximum(np.linalg.norm(basis, axis=0), 1e-6)
        m = turn @ inverse
        return (m[0, 0], m[0, 1], -(m[0, 0] * cx + m[0, 1] * cy), m[1, 0], m[1, 1], -(m[1, 0] * cx + m[1, 1] * cy))

    def ellipse(self, x: float, y: float, rx: float, ry: float, material: Material, *, angle: float = 0.0, joined: bool = False) -> None:
        """Fill an ellipse turned clockwise by `angle` degrees."""
        if angle:
            c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
            points = _CIRCLE @ np.array([[rx * c, rx * s], [-ry * s, ry * c]]) + (x, y)
            self.polygon(points, material, joined=joined, axes=((x, y), (rx * c, rx * s), (-ry * s, ry * c)))
        else:
            self.polygon(_CIRCLE * (rx, ry) + (x, y), material, joined=joined)

    def limb(self, start: Point, end: Point, width: float, material: Material, *, joined: bool = False, end_width: float | None = None) -> None:
        """Fill a stick with round ends."""
        (x0, y0), (x1, y1) = start, end
        end_width = width if end_width is None else end_width
        length = np.hypot(x1 - x0, y1 - y0) or 1e-6
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        arcs = np.linspace(-np.pi / 2, np.pi / 2, 9)
        cap = np.stack([np.cos(arcs), np.sin(arcs)], 1)
        turn = np.array([[ux, uy], [-uy, ux]])
        points = np.concatenate([cap @ turn * (end_width / 2) + end, -cap @ turn * (width / 2) + start])
        half = length / 2 + width / 2
        # Flatter along the stick than across it, so that it looks like a cylinder rather than an egg.
        axes = (((x0 + x1) / 2, (y0 + y1) / 2), (ux * half * 2, uy * half * 2), (-uy * width / 2, ux * width / 2))
        self.polygon(points, material, joined=joined, axes=axes)

    def mark(self, points: Sequence[Point] | np.ndarray, colour: RGB) -> None:
        """Paint on what is there already: no outline, no part, no shape of its own."""
        self._draw_rgb.polygon(self._pixels(points).ravel().tolist(), fill=colour)

    def dot(self, x: float, y: float, rx: float, ry: float, colour: RGB) -> None:
        self.mark(_CIRCLE * (rx, ry) + (x, y), colour)

    def line(self, points: Sequence[Point] | np.ndarray, colour: RGB, width: float) -> None:
        """Draw an open line of `width` figure units on what is there already."""
        self._draw_rgb.line(self._pixels(points).ravel().tolist(), fill=colour, width=max(2, round(width * self.unit)), joint="curve")

    def arc(self, x: float, y: float, rx: float, ry: float, start: float, stop: float, colour: RGB, width: float) -> None:
        """Draw part of an ellipse, angles in degrees clockwise from the right."""
        angles = np.radians(np.linspace(start, stop, 9))
        self.line(np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], 1), colour, width)

    def finish(self, style: str, rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
        """Apply a style.

        Returns:
            The sheet, RGBA at the final resolution; and 1 + part index of each pixel or 0, uint8 [H, W].
        """
        ids = np.asarray(self._ids)
        rgb = np.asarray(self._rgb).astype(np.float32)
        offset = rng.integers(0, _TEXTURE_SIDE // 2, 2)
        self._paint_patterns(rgb, ids)
        groups = np.array(self._groups, np.uint8)[ids]
        if style == "flat":
            rgb[_edges(groups, max(1, round(self.unit * 0.0075)))] = INK
        else:
            rgb = self._shade(rgb, ids, style, offset)
            edges = _edges(groups, max(1, round(self.unit * 0.0035)))
            rgb[edges] *= 0.62 if style == "shaded" else 0.72
        if style == "textured":
            rgb, ids = _ragged(rgb, ids, offset, self.unit)
        alpha = (ids > 0).astype(np.uint8) * 255
        sheet = Image.fromarray(np.dstack([np.clip(rgb, 0, 255).astype(np.uint8), alpha])).reduce(SUPERSAMPLING)
        parts = np.array([0] + [1 + PARTS.index(material.part) for material in self.materials], np.uint8)
        middle = SUPERSAMPLING // 2
        labels = parts[ids[middle::SUPERSAMPLING, middle::SUPERSAMPLING]]
        return sheet, labels

    def _paint_patterns(self, rgb: np.ndarray, ids: np.ndarray) -> None:
        patterned = [(number, m) for number, m in enumerate(self.materials, 1) if m.pattern != "plain"]
        if not patterned:
            return
        pattern, colour = patterned[0][1].pattern, patterned[0][1].colour
        wanted = np.zeros(256, bool)
        wanted[[number for number, _ in patterned]] = True
        where = wanted[ids] & (np.abs(rgb - colour).max(2) < 1)
        rows = np.flatnonzero(where.any(1))
        if not rows.size:
            return
        tile = _pattern_tile(pattern, max(6, round(self.unit * 0.112)))
        side = tile.shape[0]
        ys = (np.arange(ids.shape[0]) - int(self._origin[1])) % side
        xs = (np.arange(ids.shape[1]) - int(self._origin[0])) % side
        band = slice(rows[0], rows[-1] + 1)
        rgb[band][where[band] & tile[ys[band][:, None], xs[None, :]]] = pattern_colour(colour)

    def _shade(self, rgb: np.ndarray, ids: np.ndarray, style: str, offset: np.ndarray) -> np.ndarray:
        """Light every shape as if it were an egg or a stick, from the upper left."""
        high, wide = ids.shape
        table = np.array(self._normals, np.float32)
        x, y = np.arange(wide, dtype=np.float32)[None], np.arange(high, dtype=np.float32)[:, None]
        nx = table[:, 0][ids] * x + table[:, 1][ids] * y + table[:, 2][ids]
        ny = table[:, 3][ids] * x + table[:, 4][ids] * y + table[:, 5][ids]
        nx *= 0.82
        ny *= 0.82
        nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0.02))
        lit = np.maximum(nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2], -0.3)
        if style == "shaded":
            shine = np.maximum(lit, 0) ** 16
            return rgb * (0.50 + 0.62 * lit)[..., None] + (shine * 70)[..., None]
        textures = np.array([2] + [material.texture for material in self.materials], np.uint8)
        stack = _textures()
        grain = np.zeros(ids.shape, np.float32)
        kinds = textures[ids]
        for kind in (FUR, CLOTH, SMOOTH):
            cut = stack[kind][offset[0] : offset[0] + high, offset[1] : offset[1] + wide]
            grain += np.where(kinds == kind, cut, 0)
        grey = rgb.mean(2, keepdims=True)
        return (rgb * 0.86 + grey * 0.12) * (0.74 + 0.34 * lit + grain)[..., None] + (grain * 55)[..., None]


def _edges(groups: np.ndarray, thickness: int) -> np.ndarray:
    """True within `thickness` pixels of where two shapes or a shape and nothing meet, inside the figure only."""
    edges = np.zeros(groups.shape, bool)
    step = thickness
    edges[:, step:] |= groups[:, step:] != groups[:, :-step]
    edges[step:, :] |= groups[step:, :] != groups[:-step, :]
    edges[:, :-step] |= groups[:, step:] != groups[:, :-step]
    edges[:-step, :] |= groups[step:, :] != groups[:-step, :]
    return edges & (groups > 0)


def _ragged(rgb: np.ndarray, ids: np.ndarray, offset: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Move pixels by a pixel or so at random, so that fur and cloth end in fibres instead of a cut."""
    high, wide = ids.shape
    wobble = _wobble()[:, offset[0] : offset[0] + high, offset[1] : offset[1] + wide]
    reach = unit / 250
    ys = np.clip(np.arange(high)[:, None] + (wobble[0] * reach).astype(np.int32), 0, high - 1)
    xs = np.clip(np.arange(wide)[None, :] + (wobble[1] * reach).astype(np.int32), 0, wide - 1)
    flat = ys * wide + xs
    return rgb.reshape(-1, 3)[flat], ids.reshape(-1)[flat]


def _smooth(noise: np.ndarray, rows: int, columns: int) -> np.ndarray:
    for axis, width in ((0, rows), (1, columns)):
        noise = sum(np.roll(noise, shift, axis) for shift in range(width)) / np.sqrt(width)
    return noise


@lru_cache(maxsize=1)
def _textures() -> np.ndarray:
    """Fur, cloth and smooth grain around 0, float32 [3, side, side]."""
    rng = np.random.default_rng(7)
    side = _TEXTURE_SIDE * 2
    noise = rng.standard_normal((3, side, side)).astype(np.float32)
    fur = 0.11 * _smooth(noise[0], 12, 3) + 0.05 * _smooth(noise[1], 20, 20)
    y, x = np.mgrid[:side, :side]
    cloth = 0.10 * np.sin(x * 2 * np.pi / 6) * np.sin(y * 2 * np.pi / 6) + 0.06 * _smooth(noise[1], 2, 12) + 0.05 * _smooth(noise[2], 24, 24)
    skin = 0.035 * _smooth(noise[2], 4, 4) + 0.025 * _smooth(noise[0], 24, 24)
    return np.stack([fur, cloth, skin]).astype(np.float32)


@lru_cache(maxsize=1)
def _wobble() -> np.ndarray:
    """Displacements in pixels, float32 [2, side, side]."""
    noise = np.random.default_rng(8).standard_normal((2, _TEXTURE_SIDE * 2, _TEXTURE_SIDE * 2)).astype(np.float32)
    return np.stack([_smooth(noise[0], 3, 3), _smooth(noise[1], 3, 3)]) * 2.2


@lru_cache(maxsize=128)
def _pattern_tile(pattern: str, side: int) -> np.ndarray:
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
            draw.ellipse((cx * side - radius, cy * side - radius, cx * side + radius, cy * side + radius), fill=1)
    else:
        assert pattern == "starred", pattern
        side = int(side * 1.25)
        tile = Image.new("1", (side, side))
        angles = np.radians(np.arange(10) * 36 - 90)
        radii = np.where(np.arange(10) % 2 == 0, 0.42, 0.18) * side
        ImageDraw.Draw(tile).polygon(np.stack([side / 2 + radii * np.cos(angles), side / 2 + radii * np.sin(angles)], 1).ravel().tolist(), fill=1)
    return np.asarray(tile)
