"""Ears of every species, in figure units around a head centred at (0, -0.77)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clif_exp.toonworld.drawing.colours import INK, RGB, darker, lighter, luminance
from clif_exp.toonworld.drawing.pen import Material, Pen, Point
from clif_exp.toonworld.drawing.people import METAL, ROSE, WHITE, fur
from clif_exp.toonworld.world import COLOURS


def _ear_pair(
    pen: Pen, points: Sequence[Point], outer: RGB, inner: RGB, shrink: float = 0.55
) -> None:
    """Two mirrored pointed ears given the right one's corners."""
    cx, cy = sum(p[0] for p in points) / len(points), sum(p[1] for p in points) / len(points)
    for side in (-1, 1):
        pen.polygon([(side * x, y) for x, y in points], fur(outer, "hair"))
        pen.polygon(
            [(side * (cx + (x - cx) * shrink), cy + 0.015 + (y - cy) * shrink) for x, y in points],
            fur(inner, "hair"),
            joined=True,
        )


def _cat(pen: Pen, coat: RGB) -> None:
    _ear_pair(pen, [(0.08, -0.97), (0.235, -1.13), (0.262, -0.84)], coat, ROSE)


def _lynx(pen: Pen, coat: RGB) -> None:
    for side in (-1, 1):
        pen.limb(
            (side * 0.235, -1.08), (side * 0.275, -1.21), 0.05, fur(INK, "hair"), end_width=0.02
        )
    _ear_pair(pen, [(0.08, -0.97), (0.25, -1.13), (0.262, -0.84)], coat, lighter(coat, 0.75))
    for side in (-1, 1):
        ruff = [
            (side * x, y)
            for x, y in (
                (0.17, -0.80),
                (0.315, -0.74),
                (0.27, -0.70),
                (0.305, -0.64),
                (0.22, -0.63),
                (0.20, -0.56),
                (0.10, -0.60),
            )
        ]
        pen.polygon(ruff, fur(lighter(coat, 0.75)))


def _fox(pen: Pen, coat: RGB) -> None:
    _ear_pair(pen, [(0.05, -0.96), (0.235, -1.19), (0.275, -0.83)], coat, WHITE, 0.5)
    for side in (-1, 1):
        pen.polygon(
            [(side * x, y) for x, y in ((0.174, -1.115), (0.235, -1.19), (0.250, -1.065))],
            fur(INK, "hair"),
            joined=True,
        )


def _wolf(pen: Pen, coat: RGB) -> None:
    dark = darker(coat, 0.55) if luminance(coat) > 75 else lighter(coat, 0.4)
    _ear_pair(pen, [(0.07, -0.97), (0.20, -1.15), (0.27, -0.84)], coat, dark)
    for side in (-1, 1):
        ruff = [
            (side * x, y)
            for x, y in (
                (0.20, -0.82),
                (0.305, -0.70),
                (0.255, -0.69),
                (0.265, -0.62),
                (0.19, -0.62),
                (0.10, -0.60),
            )
        ]
        pen.polygon(ruff, fur(coat))


def _bear(pen: Pen, coat: RGB, *, inner: bool = True) -> None:
    for side in (-1, 1):
        pen.ellipse(side * 0.205, -0.955, 0.085, 0.085, fur(coat, "hair"))
        if inner:
            pen.ellipse(
                side * 0.205, -0.95, 0.045, 0.045, fur(lighter(coat, 0.45), "hair"), joined=True
            )


def _panda(pen: Pen, coat: RGB) -> None:
    _bear(pen, coat, inner=False)


def _rabbit(pen: Pen, coat: RGB) -> None:
    for side in (-1, 1):
        pen.ellipse(side * 0.175, -1.07, 0.065, 0.20, fur(coat, "hair"), angle=side * 16)
        pen.ellipse(
            side * 0.178, -1.08, 0.034, 0.15, fur(ROSE, "hair"), angle=side * 16, joined=True
        )


def _mouse(pen: Pen, coat: RGB) -> None:
    for side in (-1, 1):
        pen.ellipse(side * 0.25, -0.965, 0.135, 0.135, fur(coat, "hair"))
        pen.ellipse(side * 0.255, -0.96, 0.09, 0.09, fur(ROSE, "hair"), joined=True)


def _robot(pen: Pen, _coat: RGB) -> None:
    for side in (-1, 1):
        pen.polygon(
            [
                (side * 0.22, -0.83),
                (side * 0.285, -0.83),
                (side * 0.285, -0.69),
                (side * 0.22, -0.69),
            ],
            Material(METAL, "hair"),
        )
    pen.limb((0.165, -0.96), (0.19, -1.08), 0.03, Material(METAL, "hair"))
    pen.ellipse(0.195, -1.10, 0.042, 0.042, Material(COLOURS["red"], "hair"))


def _alien(pen: Pen, coat: RGB) -> None:
    for side in (-1, 1):
        pen.limb((side * 0.15, -0.93), (side * 0.235, -1.10), 0.036, Material(coat, "hair"))
        pen.ellipse(side * 0.245, -1.12, 0.048, 0.048, Material(COLOURS["yellow"], "hair"))


_EARS: dict[str, Callable[[Pen, RGB], None]] = {
    "cat": _cat,
    "lynx": _lynx,
    "fox": _fox,
    "wolf": _wolf,
    "bear": _bear,
    "panda": _panda,
    "rabbit": _rabbit,
    "mouse": _mouse,
    "robot": _robot,
    "alien": _alien,
}


def draw_ears(pen: Pen, species: str, coat: RGB) -> None:
    """Draw ears that grow behind the head; people's and dogs' belong to the head itself."""
    if species in _EARS:
        _EARS[species](pen, coat)
