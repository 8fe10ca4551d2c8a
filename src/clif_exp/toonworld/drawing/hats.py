"""Hats in figure units, as worn."""

from __future__ import annotations

import math
from collections.abc import Callable

from clif_exp.toonworld.drawing.colours import RGB, darker, lighter, luminance
from clif_exp.toonworld.drawing.pen import CLOTH, SMOOTH, Material, Pen
from clif_exp.toonworld.world import COLOURS

GOLD: RGB = (246, 200, 56)
WHITE_GEM: RGB = (250, 250, 255)


def _trim(colour: RGB) -> RGB:
    """A band that shows on a hat of this colour."""
    return darker(colour, 0.5) if luminance(colour) > 100 else lighter(colour, 0.55)


def _cap(pen: Pen, colour: RGB) -> None:
    cloth = Material(colour, "hat", CLOTH)
    crown = [
        (-0.225, -0.895),
        (-0.22, -0.98),
        (-0.16, -1.075),
        (-0.04, -1.12),
        (0.08, -1.11),
        (0.18, -1.04),
        (0.225, -0.95),
        (0.225, -0.895),
    ]
    pen.polygon(crown, cloth)
    pen.line([(0.0, -1.115), (-0.02, -0.90)], _trim(colour), 0.014)
    pen.polygon(
        [
            (-0.06, -0.945),
            (0.22, -0.935),
            (0.37, -0.895),
            (0.375, -0.865),
            (0.20, -0.885),
            (-0.06, -0.885),
        ],
        Material(darker(colour, 0.22), "hat", CLOTH),
    )
    pen.ellipse(0.0, -1.118, 0.03, 0.02, cloth)


def _crown(pen: Pen, colour: RGB) -> None:
    points = [
        (-0.20, -0.90),
        (-0.245, -1.14),
        (-0.125, -1.02),
        (0, -1.18),
        (0.125, -1.02),
        (0.245, -1.14),
        (0.20, -0.90),
    ]
    pen.polygon(points, Material(colour, "hat", SMOOTH), axes=((0, -1.0), (0.24, 0), (0, 0.2)))
    for x, y in ((-0.245, -1.14), (0, -1.18), (0.245, -1.14)):
        pen.ellipse(
            x,
            y,
            0.030,
            0.030,
            Material(GOLD if colour[0] < 220 or colour[2] > 100 else COLOURS["red"], "hat"),
        )
    pen.line([(-0.20, -0.925), (0.20, -0.925)], _trim(colour), 0.036)
    for x in (-0.115, 0.0, 0.115):
        pen.dot(x, -0.985, 0.026, 0.030, WHITE_GEM if luminance(colour) < 200 else COLOURS["blue"])


def _beanie(pen: Pen, colour: RGB) -> None:
    cloth = Material(colour, "hat", CLOTH)
    dome = [
        (-0.235, -0.95),
        (-0.225, -1.02),
        (-0.175, -1.09),
        (-0.09, -1.13),
        (0.09, -1.13),
        (0.175, -1.09),
        (0.225, -1.02),
        (0.235, -0.95),
    ]
    pen.polygon(dome, cloth, axes=((0, -0.97), (0.235, 0), (0, 0.165)))
    pen.polygon(
        [(-0.25, -0.975), (0.25, -0.975), (0.255, -0.888), (-0.255, -0.888)],
        Material(_trim(colour) if luminance(colour) > 200 else darker(colour, 0.3), "hat", CLOTH),
    )
    for x in (-0.17, -0.085, 0.0, 0.085, 0.17):
        pen.line([(x, -0.965), (x, -0.898)], colour, 0.016)
    pen.ellipse(
        0,
        -1.145,
        0.068,
        0.066,
        Material(COLOURS["white"] if luminance(colour) < 225 else (190, 192, 200), "hat", CLOTH),
    )


def _top_hat(pen: Pen, colour: RGB) -> None:
    cloth = Material(colour, "hat", CLOTH)
    pen.polygon([(-0.155, -0.90), (-0.17, -1.25), (0.17, -1.25), (0.155, -0.90)], cloth)
    pen.polygon(
        [(-0.158, -0.925), (-0.161, -0.995), (0.161, -0.995), (0.158, -0.925)],
        Material(_trim(colour), "hat", CLOTH),
        joined=True,
    )
    pen.ellipse(0, -0.905, 0.285, 0.045, cloth)


def _wizard_hat(pen: Pen, colour: RGB) -> None:
    cloth = Material(colour, "hat", CLOTH)
    pen.polygon(
        [(-0.185, -0.90), (-0.07, -1.15), (0.09, -1.36), (0.085, -1.19), (0.185, -0.90)], cloth
    )
    for x, y, size in ((-0.065, -1.0, 0.036), (0.065, -1.06, 0.032), (0.035, -1.19, 0.024)):
        _star(pen, x, y, size, GOLD if luminance(colour) < 170 else darker(COLOURS["purple"], 0.2))
    pen.ellipse(0, -0.90, 0.305, 0.058, cloth)


def _feather_hat(pen: Pen, colour: RGB) -> None:
    cloth = Material(colour, "hat", CLOTH)
    plume = COLOURS["white"] if luminance(colour) < 225 else COLOURS["red"]
    pen.ellipse(0.205, -1.17, 0.062, 0.185, Material(plume, "hat", CLOTH), angle=24)
    pen.line([(0.14, -1.02), (0.265, -1.31)], darker(plume, 0.35), 0.016)
    pen.ellipse(0, -0.985, 0.185, 0.115, cloth)
    pen.polygon(
        [(-0.185, -0.975), (0.185, -0.975), (0.185, -0.93), (-0.185, -0.93)],
        Material(_trim(colour), "hat", CLOTH),
    )
    pen.polygon(
        [
            (-0.36, -0.955),
            (-0.20, -0.945),
            (0.20, -0.945),
            (0.36, -0.955),
            (0.24, -0.865),
            (0, -0.85),
            (-0.24, -0.865),
        ],
        cloth,
    )


def _horned_helmet(pen: Pen, colour: RGB) -> None:
    for side in (-1, 1):
        horn = [
            (side * x, y)
            for x, y in (
                (0.16, -1.04),
                (0.27, -1.08),
                (0.315, -1.23),
                (0.375, -1.09),
                (0.34, -0.97),
                (0.21, -0.93),
            )
        ]
        pen.polygon(horn, Material((250, 240, 214), "hat"))
    pen.polygon(
        [
            (-0.245, -0.87),
            (-0.24, -0.98),
            (-0.16, -1.08),
            (0, -1.12),
            (0.16, -1.08),
            (0.24, -0.98),
            (0.245, -0.87),
        ],
        Material(colour, "hat", SMOOTH),
    )
    pen.polygon(
        [(-0.255, -0.92), (0.255, -0.92), (0.255, -0.86), (-0.255, -0.86)],
        Material(_trim(colour), "hat"),
    )
    for x in (-0.18, -0.06, 0.06, 0.18):
        pen.dot(x, -0.89, 0.016, 0.016, GOLD)


def _star(pen: Pen, x: float, y: float, size: float, colour: RGB) -> None:
    points = []
    for corner in range(10):
        radius = size if corner % 2 == 0 else size * 0.45
        angle = math.radians(36 * corner - 90)
        points.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    pen.mark(points, colour)


_HATS: dict[str, Callable[[Pen, RGB], None]] = {
    "cap": _cap,
    "crown": _crown,
    "beanie": _beanie,
    "top hat": _top_hat,
    "wizard hat": _wizard_hat,
    "feather hat": _feather_hat,
    "horned helmet": _horned_helmet,
}


def draw_hat(pen: Pen, hat: str, colour: RGB) -> None:
    """Draw a hat as worn; "none" draws nothing."""
    if hat != "none":
        _HATS[hat](pen, colour)
