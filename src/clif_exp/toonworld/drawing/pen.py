"""A pen that draws shapes into planes of colours and shape numbers, which a style makes an image.

Shapes are polygons in figure units: feet at (0, 0), crown at (0, -1), x to the viewer's right. The
planes are drawn at `SUPERSAMPLING` times the final resolution without smoothing; reducing them
smooths the edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from clif_exp.toonworld.drawing.colours import INK, RGB, pattern_colour
from clif_exp.toonworld.drawing.textures import TEXTURE_SIDE, pattern_tile, textures, wobble
from clif_exp.toonworld.world import PARTS

SUPERSAMPLING = 3
Point = tuple[float, float]
FUR, CLOTH, SMOOTH = 0, 1, 2
_LIGHT = np.array([-0.42, -0.58, 0.70], np.float32)
# Width of the lines between shapes as a share of the figure's height. Flat figures are inked, the
# others only shaded darker along them.
_LINE_WIDTHS = {"flat": 0.0075, "shaded": 0.0035, "textured": 0.0035}
_EDGE_GAIN = {"shaded": 0.62, "textured": 0.66}


def _arc(start: float, stop: float, count: int, *, closed: bool) -> np.ndarray:
    """Points on the unit circle from `start` to `stop` radians, [count, 2]."""
    angles = np.linspace(start, stop, count, endpoint=closed)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


_CIRCLE = _arc(0, 2 * np.pi, 28, closed=False)
_CAP = _arc(-np.pi / 2, np.pi / 2, 9, closed=True)


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

    def __init__(
        self, size: tuple[int, int], *, unit: float, origin: Point, flip: bool = False
    ) -> None:
        wide, high = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
        self.unit = unit * SUPERSAMPLING
        self.flip = flip
        self._rgba = Image.new("RGBA", (wide, high))
        self._ids = Image.new("L", (wide, high))
        self._draw_rgb, self._draw_ids = ImageDraw.Draw(self._rgba), ImageDraw.Draw(self._ids)
        self._scale = np.array([-self.unit if flip else self.unit, self.unit])
        self._origin = np.array(origin) * SUPERSAMPLING
        self.shift: Point = (0.0, 0.0)
        self.materials: list[Material] = []
        self._groups: list[int] = [0]
        self._normals: list[tuple[float, ...]] = [(0.0,) * 6]

    def _pixels(self, points: Sequence[Point] | np.ndarray) -> np.ndarray:
        return (np.asarray(points) + self.shift) * self._scale + self._origin

    def polygon(
        self,
        points: Sequence[Point] | np.ndarray,
        material: Material,
        *,
        joined: bool = False,
        axes: tuple[Point, Point, Point] | None = None,
    ) -> None:
        """Fill a polygon.

        Args:
            points: corners in figure units, [N, 2].
            material: what it is painted with.
            joined: share the outline of the shape before it.
            axes: centre, half axis and other half axis of the ellipse that stands for its
                roundness; from the bounding box when missing.
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
        # Normals in image axes: the ellipse's own coordinates turned back by its (orthonormal)
        # directions.
        inverse = np.array([[d, -b], [-c, a]]) / det
        turn = basis / np.maximum(np.linalg.norm(basis, axis=0), 1e-6)
        m = turn @ inverse
        return (
            m[0, 0],
            m[0, 1],
            -(m[0, 0] * cx + m[0, 1] * cy),
            m[1, 0],
            m[1, 1],
            -(m[1, 0] * cx + m[1, 1] * cy),
        )

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        material: Material,
        *,
        angle: float = 0.0,
        joined: bool = False,
    ) -> None:
        """Fill an ellipse turned clockwise by `angle` degrees."""
        if angle:
            c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
            points = _CIRCLE @ np.array([[rx * c, rx * s], [-ry * s, ry * c]]) + (x, y)
            self.polygon(
                points, material, joined=joined, axes=((x, y), (rx * c, rx * s), (-ry * s, ry * c))
            )
        else:
            self.polygon(_CIRCLE * (rx, ry) + (x, y), material, joined=joined)

    def limb(
        self,
        start: Point,
        end: Point,
        width: float,
        material: Material,
        *,
        joined: bool = False,
        end_width: float | None = None,
    ) -> None:
        """Fill a stick with round ends."""
        (x0, y0), (x1, y1) = start, end
        end_width = width if end_width is None else end_width
        length = np.hypot(x1 - x0, y1 - y0) or 1e-6
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        turn = np.array([[ux, uy], [-uy, ux]])
        points = np.concatenate(
            [_CAP @ turn * (end_width / 2) + end, -_CAP @ turn * (width / 2) + start]
        )
        half = length / 2 + width / 2
        # Flatter along the stick than across it, so that it looks like a cylinder, not an egg.
        axes = (
            ((x0 + x1) / 2, (y0 + y1) / 2),
            (ux * half * 2, uy * half * 2),
            (-uy * width / 2, ux * width / 2),
        )
        self.polygon(points, material, joined=joined, axes=axes)

    def mark(self, points: Sequence[Point] | np.ndarray, colour: RGB) -> None:
        """Paint over what is there: a mark has no outline and no part."""
        self._draw_rgb.polygon(self._pixels(points).ravel().tolist(), fill=colour)

    def dot(self, x: float, y: float, rx: float, ry: float, colour: RGB) -> None:
        """Paint an ellipse over what is there."""
        self.mark(_CIRCLE * (rx, ry) + (x, y), colour)

    def line(self, points: Sequence[Point] | np.ndarray, colour: RGB, width: float) -> None:
        """Paint an open line of `width` figure units over what is there."""
        self._draw_rgb.line(
            self._pixels(points).ravel().tolist(),
            fill=colour,
            width=max(2, round(width * self.unit)),
            joint="curve",
        )

    def arc(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        start: float,
        stop: float,
        colour: RGB,
        width: float,
    ) -> None:
        """Paint part of an ellipse, angles in degrees clockwise from the right."""
        angles = np.radians(np.linspace(start, stop, 9))
        self.line(np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], 1), colour, width)

    def finish(self, style: str, rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
        """Apply a style.

        Returns:
            The sheet, RGBA at the final resolution; and 1 + part index of each pixel or 0, uint8
            [H, W].
        """
        offset = rng.integers(0, TEXTURE_SIDE // 2, 2)
        rgba, ids = np.array(self._rgba), np.array(self._ids)
        window = self._used(ids)
        inner_rgba, inner_ids = (
            np.ascontiguousarray(rgba[window]),
            np.ascontiguousarray(ids[window]),
        )
        self._paint_patterns(inner_rgba, inner_ids, window)
        edges = _edges(
            np.array(self._groups, np.uint8)[inner_ids],
            max(1, round(self.unit * _LINE_WIDTHS[style])),
        )
        if style == "flat":
            inner_rgba[edges] = (*INK, 255)
        else:
            self._light(inner_rgba, inner_ids, edges, window, style=style, offset=offset)
        if style == "textured":
            self._grow_fur(inner_rgba, inner_ids, offset)
        rgba[window], ids[window] = inner_rgba, inner_ids
        rgba[..., 3] = (ids > 0) * np.uint8(255)
        sheet = Image.fromarray(rgba).reduce(SUPERSAMPLING)
        parts = np.array(
            [0] + [1 + PARTS.index(material.part) for material in self.materials], np.uint8
        )
        middle = SUPERSAMPLING // 2
        return sheet, parts[ids[middle::SUPERSAMPLING, middle::SUPERSAMPLING]]

    def _used(self, ids: np.ndarray) -> tuple[slice, slice]:
        """The window that was drawn on, with a margin for fur."""
        left, top, right, bottom = self._ids.getbbox() or (0, 0, 1, 1)
        return slice(max(top - 6, 0), min(bottom + 6, ids.shape[0])), slice(
            max(left - 6, 0), min(right + 6, ids.shape[1])
        )

    def _paint_patterns(
        self, rgba: np.ndarray, ids: np.ndarray, window: tuple[slice, slice]
    ) -> None:
        patterned = [
            (number, material)
            for number, material in enumerate(self.materials, 1)
            if material.pattern != "plain"
        ]
        if not patterned:
            return
        pattern, colour = patterned[0][1].pattern, patterned[0][1].colour
        wanted = np.zeros(256, bool)
        wanted[[number for number, _ in patterned]] = True
        packed = rgba.view(np.uint32)[..., 0]
        first, second = (
            np.array([(*colour, 255), (*pattern_colour(colour), 255)], np.uint8)
            .view(np.uint32)
            .ravel()
        )
        tile = pattern_tile(pattern, max(6, round(self.unit * 0.115)))
        ys = (np.arange(window[0].start, window[0].stop) - int(self._origin[1])) % tile.shape[0]
        xs = (np.arange(window[1].start, window[1].stop) - int(self._origin[0])) % tile.shape[1]
        # Only where the cloth itself shows: seams and buttons keep their colour.
        packed[wanted[ids] & (packed == first) & tile[ys[:, None], xs[None, :]]] = second

    def _light(
        self,
        rgba: np.ndarray,
        ids: np.ndarray,
        edges: np.ndarray,
        window: tuple[slice, slice],
        *,
        style: str,
        offset: np.ndarray,
    ) -> None:
        """Light every shape as if it were an egg or a stick, from the upper left; in place."""
        wide = ids.shape[1]
        drawn = np.flatnonzero(ids)
        ys, xs = np.divmod(drawn.astype(np.int32), np.int32(wide))
        number = ids.ravel()[drawn]
        table = np.array(self._normals, np.float32).T
        x, y = (xs + window[1].start).astype(np.float32), (ys + window[0].start).astype(np.float32)
        nx = (table[0][number] * x + table[1][number] * y + table[2][number]) * np.float32(0.82)
        ny = (table[3][number] * x + table[4][number] * y + table[5][number]) * np.float32(0.82)
        nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, np.float32(0.02)))
        lit = np.maximum(nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2], np.float32(-0.3))
        packed = rgba.view(np.uint32)[..., 0]
        colours = packed.ravel()[drawn].view(np.uint8).reshape(-1, 4).astype(np.float32)
        if style == "shaded":
            gain, lift = 0.50 + 0.62 * lit, np.maximum(lit, 0)
            for _ in range(4):
                lift *= lift
            lift *= 70
        else:
            kinds = np.array(
                [SMOOTH] + [material.texture for material in self.materials], np.uint8
            )[number]
            grain = textures()[kinds, ys + offset[0], xs + offset[1]]
            gain, lift = (
                0.68 + 0.34 * lit + grain,
                grain * 55 + (colours[:, 0] + colours[:, 1] + colours[:, 2]) * np.float32(0.033),
            )
        gain *= np.where(edges.ravel()[drawn], np.float32(_EDGE_GAIN[style]), np.float32(1))
        colours *= gain[:, None]
        colours += lift[:, None]
        np.clip(colours, 0, 255, out=colours)
        packed.flat[drawn] = colours.astype(np.uint8).view(np.uint32).ravel()

    def _grow_fur(self, rgba: np.ndarray, ids: np.ndarray, offset: np.ndarray) -> None:
        """Let fur reach over what lies beside it in single hairs; in place."""
        high, wide = ids.shape
        reach = self.unit / 260
        ys, xs = wobble()[:, offset[0] : offset[0] + high, offset[1] : offset[1] + wide]
        ys = np.clip(np.arange(high)[:, None] + (ys * reach).astype(np.int32), 0, high - 1)
        xs = np.clip(np.arange(wide)[None, :] + (xs * reach).astype(np.int32), 0, wide - 1)
        furry = np.array([False] + [material.texture == FUR for material in self.materials])
        moved = ids[ys, xs]
        # Faces stay legible: only ears, tails, hair, limbs and outer edges fray.
        grows = furry[moved] & ((ids == 0) | (moved != ids))
        packed = rgba.view(np.uint32)[..., 0]
        packed[grows] = packed[ys, xs][grows]
        ids[grows] = moved[grows]


def _edges(groups: np.ndarray, thickness: int) -> np.ndarray:
    """Find a figure's pixels within `thickness` pixels of another shape, bool [H, W]."""
    edges = np.zeros(groups.shape, bool)
    step = thickness
    edges[:, step:] |= groups[:, step:] != groups[:, :-step]
    edges[step:, :] |= groups[step:, :] != groups[:-step, :]
    edges[:, :-step] |= groups[:, step:] != groups[:, :-step]
    edges[:-step, :] |= groups[step:, :] != groups[:-step, :]
    return edges & (groups > 0)
