"""Faces of animals, in figure units around a head centred at (0, -0.77)."""

from __future__ import annotations

from collections.abc import Callable

from clif_exp.toonworld.drawing.colours import INK, RGB, darker, lighter, luminance, mix
from clif_exp.toonworld.drawing.pen import Pen
from clif_exp.toonworld.drawing.people import HEAD_Y, ROSE, WHITE, draw_eyes, fur

_HALF_WIDTHS = {"bear": 0.275, "panda": 0.285, "mouse": 0.245, "rabbit": 0.25, "lynx": 0.26}
_BLUSHING = ("cat", "rabbit", "mouse", "panda", "bear")


def _pale(coat: RGB) -> RGB:
    """The light parts of a face."""
    return lighter(coat, 0.72) if luminance(coat) < 225 else (224, 222, 220)


def _contrast(coat: RGB) -> RGB:
    """Lines that show on the coat."""
    return INK if luminance(coat) > 90 else (214, 214, 220)


def _snout(
    pen: Pen,
    colour: RGB,
    nose: RGB,
    *,
    rx: float,
    ry: float,
    y: float = -0.655,
    nose_size: float = 0.042,
) -> None:
    pen.ellipse(0, y, rx, ry, fur(colour), joined=True)
    pen.dot(0, y - ry * 0.42, nose_size * 1.2, nose_size * 0.82, nose)
    pen.arc(-0.035, y + ry * 0.10, 0.037, 0.034, 10, 170, INK, 0.014)
    pen.arc(0.035, y + ry * 0.10, 0.037, 0.034, 10, 170, INK, 0.014)


def _whiskers(pen: Pen, colour: RGB) -> None:
    for side in (-1, 1):
        for start, end in ((-0.685, -0.70), (-0.655, -0.645)):
            pen.line([(side * 0.12, start), (side * 0.235, end)], colour, 0.011)


def _fox(pen: Pen, coat: RGB) -> None:
    for side in (-1, 1):
        cheek = [
            (0.0, -0.60),
            (side * 0.0, -0.70),
            (side * 0.10, -0.72),
            (side * 0.24, -0.715),
            (side * 0.205, -0.645),
            (side * 0.13, -0.585),
            (side * 0.05, -0.553),
        ]
        pen.polygon(cheek, fur(WHITE), joined=True)
    draw_eyes(pen, y=-0.79, size=0.053)
    pen.mark([(-0.075, -0.735), (0.075, -0.735), (0, -0.60)], coat)
    pen.dot(0, -0.625, 0.044, 0.034, INK)
    pen.arc(0, -0.605, 0.05, 0.03, 20, 160, INK, 0.013)


def _wolf(pen: Pen, coat: RGB) -> None:
    mask = [
        (-0.225, -0.70),
        (-0.12, -0.745),
        (-0.05, -0.71),
        (0, -0.78),
        (0.05, -0.71),
        (0.12, -0.745),
        (0.225, -0.70),
        (0.16, -0.60),
        (0, -0.548),
        (-0.16, -0.60),
    ]
    pen.polygon(mask, fur(_pale(coat)), joined=True)
    draw_eyes(pen, y=-0.785, size=0.050)
    for side in (-1, 1):
        pen.line([(side * 0.06, -0.868), (side * 0.145, -0.880)], _contrast(coat), 0.026)
    pen.dot(0, -0.685, 0.055, 0.038, INK)
    pen.arc(0, -0.635, 0.09, 0.035, 10, 170, INK, 0.014)
    for side in (-1, 1):
        pen.mark([(side * 0.035, -0.605), (side * 0.075, -0.610), (side * 0.052, -0.570)], WHITE)


def _cat(pen: Pen, coat: RGB) -> None:
    for x in (-0.055, 0.0, 0.055):
        pen.line(
            [(x, -0.965), (x * 0.8, -0.90)],
            _contrast(coat) if luminance(coat) < 90 else darker(coat, 0.45),
            0.022,
        )
    draw_eyes(pen, size=0.062)
    _snout(pen, _pale(coat), ROSE, rx=0.095, ry=0.062, nose_size=0.032)
    _whiskers(pen, _contrast(coat))


def _lynx(pen: Pen, coat: RGB) -> None:
    spots = darker(coat, 0.5) if luminance(coat) > 75 else lighter(coat, 0.4)
    for x, y in (
        (-0.06, -0.93),
        (0.0, -0.955),
        (0.06, -0.93),
        (-0.20, -0.80),
        (0.20, -0.80),
        (-0.17, -0.88),
        (0.17, -0.88),
    ):
        pen.dot(x, y, 0.019, 0.019, spots)
    draw_eyes(pen, size=0.056)
    _snout(
        pen,
        WHITE if luminance(coat) < 225 else _pale(coat),
        INK,
        rx=0.125,
        ry=0.075,
        nose_size=0.036,
    )


def _dog(pen: Pen, coat: RGB) -> None:
    pen.ellipse(0.105, -0.795, 0.088, 0.105, fur(_pale(coat)), joined=True)
    draw_eyes(pen)
    _snout(pen, _pale(coat), INK, rx=0.135, ry=0.09, y=-0.65, nose_size=0.052)
    pen.mark(
        [(-0.032, -0.615), (0.032, -0.615), (0.03, -0.575), (0, -0.56), (-0.03, -0.575)],
        (238, 98, 112),
    )
    ear = darker(coat, 0.42) if luminance(coat) > 75 else lighter(coat, 0.35)
    for side in (-1, 1):
        pen.ellipse(side * 0.265, -0.79, 0.072, 0.165, fur(ear, "hair"), angle=side * -14)


def _bear(pen: Pen, coat: RGB) -> None:
    draw_eyes(pen, size=0.050, x=0.11)
    _snout(pen, _pale(coat), INK, rx=0.125, ry=0.092, y=-0.655, nose_size=0.055)


def _panda(pen: Pen, coat: RGB) -> None:
    patch = coat if luminance(coat) < 225 else (208, 208, 212)
    for side in (-1, 1):
        pen.ellipse(side * 0.118, -0.77, 0.082, 0.10, fur(patch), angle=side * 28, joined=True)
    draw_eyes(pen, size=0.048, x=0.108)
    _snout(pen, WHITE, INK, rx=0.085, ry=0.06, nose_size=0.042)


def _rabbit(pen: Pen, coat: RGB) -> None:
    draw_eyes(pen, size=0.060)
    _snout(pen, _pale(coat), ROSE, rx=0.095, ry=0.062, y=-0.665, nose_size=0.032)
    pen.mark([(-0.038, -0.632), (0.038, -0.632), (0.036, -0.572), (-0.036, -0.572)], INK)
    for side in (-1, 1):
        pen.mark(
            [
                (side * 0.004, -0.628),
                (side * 0.029, -0.628),
                (side * 0.027, -0.581),
                (side * 0.004, -0.581),
            ],
            WHITE,
        )


def _mouse(pen: Pen, coat: RGB) -> None:
    draw_eyes(pen, size=0.058, x=0.095)
    pen.ellipse(0, -0.65, 0.085, 0.072, fur(_pale(coat)), joined=True)
    pen.dot(0, -0.68, 0.048, 0.042, (238, 108, 132))
    pen.arc(0, -0.632, 0.045, 0.026, 10, 170, INK, 0.013)
    _whiskers(pen, _contrast(coat))


_FACES: dict[str, Callable[[Pen, RGB], None]] = {
    "fox": _fox,
    "wolf": _wolf,
    "cat": _cat,
    "lynx": _lynx,
    "dog": _dog,
    "bear": _bear,
    "panda": _panda,
    "rabbit": _rabbit,
    "mouse": _mouse,
}


def draw_animal(pen: Pen, species: str, coat: RGB) -> None:
    """Draw an animal's head with its face."""
    face = WHITE if species == "panda" else coat
    pen.ellipse(0, HEAD_Y, _HALF_WIDTHS.get(species, 0.262), 0.222, fur(face))
    _FACES[species](pen, coat)
    if species in _BLUSHING:
        for side in (-1, 1):
            pen.dot(side * 0.185, -0.695, 0.036, 0.022, mix(face, (250, 120, 130), 0.45))
