"""Heads of people, robots and aliens, in figure units around a head centred at (0, -0.77)."""

from __future__ import annotations

from clif_exp.toonworld.drawing.colours import INK, RGB, darker, lighter, luminance, mix
from clif_exp.toonworld.drawing.pen import FUR, Material, Pen, Point
from clif_exp.toonworld.world import SKIN_TONES, Character

HEAD_Y = -0.77
WHITE: RGB = (252, 252, 250)
ROSE: RGB = (244, 156, 168)
METAL: RGB = (176, 184, 196)


def fur(colour: RGB, part: str = "head") -> Material:
    """Fur or hair of a colour."""
    return Material(colour, part, FUR)


def draw_eyes(
    pen: Pen, *, x: float = 0.105, y: float = -0.785, size: float = 0.058, lid: RGB | None = None
) -> None:
    """Draw two round eyes, mirrored about the middle of the face, looking at the viewer."""
    for side in (-1, 1):
        pen.dot(side * x, y, size * 1.12, size * 1.28, lid or INK)
        pen.dot(side * x, y, size * 0.92, size * 1.08, WHITE)
        pen.dot(side * (x - 0.010), y + 0.006, size * 0.66, size * 0.84, INK)
        pen.dot(side * (x - 0.010) - size * 0.22, y - size * 0.28, size * 0.26, size * 0.30, WHITE)


_FRONT_HAIR: dict[str, list[Point]] = {
    "man": [
        (-0.265, -0.72),
        (-0.275, -0.86),
        (-0.22, -0.96),
        (-0.10, -1.02),
        (0.08, -1.03),
        (0.22, -0.97),
        (0.277, -0.86),
        (0.265, -0.72),
        (0.225, -0.74),
        (0.215, -0.85),
        (0.12, -0.90),
        (-0.10, -0.905),
        (-0.215, -0.85),
        (-0.225, -0.74),
    ],
    "woman": [
        (-0.285, -0.58),
        (-0.30, -0.80),
        (-0.24, -0.95),
        (-0.09, -1.025),
        (0.09, -1.025),
        (0.24, -0.95),
        (0.30, -0.80),
        (0.285, -0.58),
        (0.235, -0.60),
        (0.225, -0.80),
        (0.13, -0.875),
        (0.0, -0.925),
        (-0.13, -0.875),
        (-0.225, -0.80),
        (-0.235, -0.60),
    ],
    "boy": [
        (-0.262, -0.76),
        (-0.29, -0.90),
        (-0.22, -0.93),
        (-0.21, -1.03),
        (-0.10, -0.99),
        (-0.03, -1.08),
        (0.06, -1.0),
        (0.16, -1.05),
        (0.20, -0.95),
        (0.285, -0.93),
        (0.262, -0.76),
        (0.225, -0.84),
        (0.16, -0.89),
        (0.10, -0.845),
        (0.02, -0.90),
        (-0.06, -0.85),
        (-0.13, -0.90),
        (-0.22, -0.83),
    ],
    "girl": [
        (-0.262, -0.74),
        (-0.275, -0.87),
        (-0.20, -0.97),
        (-0.07, -1.02),
        (0.07, -1.02),
        (0.20, -0.97),
        (0.275, -0.87),
        (0.262, -0.74),
        (0.225, -0.80),
        (0.19, -0.855),
        (-0.19, -0.855),
        (-0.225, -0.80),
    ],
}


def draw_person(pen: Pen, character: Character, hair_colour: RGB) -> None:
    """Draw a person's head with face and front hair."""
    species, skin = character.species, SKIN_TONES[character.skin]
    face = Material(skin, "head")
    for side in (-1, 1):
        pen.ellipse(side * 0.25, -0.755, 0.042, 0.055, face)
    if species == "man":
        jaw = [
            (-0.245, -0.80),
            (0.245, -0.80),
            (0.24, -0.66),
            (0.15, -0.56),
            (-0.15, -0.56),
            (-0.24, -0.66),
        ]
        pen.polygon(jaw, face)
        pen.ellipse(0, -0.80, 0.245, 0.195, face, joined=True)
    else:
        pen.ellipse(0, HEAD_Y, 0.25, 0.22, face)
    draw_eyes(pen, y=-0.765, size=0.050 if species in ("man", "woman") else 0.058, x=0.10)
    brow = hair_colour if luminance(hair_colour) < 200 else darker(hair_colour, 0.35)
    for side in (-1, 1):
        if species in ("woman", "girl"):
            pen.line([(side * 0.148, -0.805), (side * 0.188, -0.835)], INK, 0.020)
            pen.dot(side * 0.165, -0.69, 0.040, 0.026, mix(skin, (240, 90, 100), 0.42))
        else:
            width = 0.034 if species == "man" else 0.022
            pen.line([(side * 0.05, -0.852), (side * 0.155, -0.858)], brow, width)
        if species == "boy":
            for dx, dy in ((0.13, -0.70), (0.165, -0.685), (0.15, -0.665)):
                pen.dot(side * dx, dy, 0.012, 0.012, darker(skin, 0.28))
    pen.arc(0, -0.715, 0.026, 0.022, 10, 170, darker(skin, 0.4), 0.016)
    _mouth(pen, species, skin)
    pen.polygon(
        _FRONT_HAIR[species], fur(hair_colour, "hair"), axes=((0, -0.80), (0.29, 0), (0, 0.24))
    )


def _mouth(pen: Pen, species: str, skin: RGB) -> None:
    if species == "woman":
        lips = [
            (-0.072, -0.658),
            (-0.03, -0.664),
            (0, -0.656),
            (0.03, -0.664),
            (0.072, -0.658),
            (0.04, -0.616),
            (0, -0.606),
            (-0.04, -0.616),
        ]
        pen.mark(lips, (206, 62, 84))
    elif species == "man":
        for x in (-0.09, -0.03, 0.03, 0.09):
            pen.dot(x, -0.585 - abs(x) * 0.15, 0.008, 0.008, darker(skin, 0.45))
        pen.arc(0, -0.665, 0.075, 0.028, 15, 165, darker(skin, 0.75), 0.018)
    else:
        laugh = [(-0.062, -0.660), (0.062, -0.660), (0.040, -0.618), (-0.040, -0.618)]
        pen.mark(laugh, (150, 44, 54))
        pen.mark([(-0.058, -0.660), (0.058, -0.660), (0.052, -0.645), (-0.052, -0.645)], WHITE)


def draw_robot(pen: Pen, coat: RGB) -> None:
    """Draw a robot's head with its screen."""
    box = [
        (-0.215, -0.98),
        (0.215, -0.98),
        (0.245, -0.95),
        (0.245, -0.60),
        (0.215, -0.57),
        (-0.215, -0.57),
        (-0.245, -0.60),
        (-0.245, -0.95),
    ]
    pen.polygon(box, Material(coat, "head"))
    screen = [
        (-0.165, -0.90),
        (0.165, -0.90),
        (0.19, -0.875),
        (0.19, -0.665),
        (0.165, -0.64),
        (-0.165, -0.64),
        (-0.19, -0.665),
        (-0.19, -0.875),
    ]
    pen.polygon(screen, Material((28, 36, 54), "head"))
    glow = (120, 244, 250)
    for side in (-1, 1):
        pen.dot(side * 0.095, -0.795, 0.058, 0.062, glow)
        pen.dot(side * 0.095, -0.795, 0.028, 0.032, (28, 36, 54))
    pen.mark([(-0.09, -0.71), (0.09, -0.71), (0.09, -0.675), (-0.09, -0.675)], glow)
    for x in (-0.045, 0.0, 0.045):
        pen.line([(x, -0.715), (x, -0.67)], (28, 36, 54), 0.012)
    for side in (-1, 1):
        pen.dot(side * 0.213, -0.60, 0.014, 0.014, darker(coat, 0.5))
        pen.dot(side * 0.213, -0.95, 0.014, 0.014, darker(coat, 0.5))


def draw_alien(pen: Pen, coat: RGB) -> None:
    """Draw an alien's head with its face."""
    points = [
        (0, -0.555),
        (0.10, -0.585),
        (0.19, -0.66),
        (0.255, -0.77),
        (0.27, -0.86),
        (0.225, -0.955),
        (0.12, -1.0),
        (-0.12, -1.0),
        (-0.225, -0.955),
        (-0.27, -0.86),
        (-0.255, -0.77),
        (-0.19, -0.66),
        (-0.10, -0.585),
    ]
    pen.polygon(points, Material(coat, "head"))
    rim = lighter(coat, 0.65) if luminance(coat) < 90 else darker(coat, 0.25)
    for side in (-1, 1):
        pen.ellipse(
            side * 0.115, -0.775, 0.070, 0.108, Material(rim, "head"), angle=side * 26, joined=True
        )
        pen.ellipse(
            side * 0.115, -0.775, 0.058, 0.094, Material(INK, "head"), angle=side * 26, joined=True
        )
        pen.dot(side * 0.115 - 0.018, -0.815, 0.022, 0.026, WHITE)
    mouth = INK if luminance(coat) > 90 else WHITE
    pen.arc(0, -0.645, 0.05, 0.026, 10, 170, mouth, 0.016)
