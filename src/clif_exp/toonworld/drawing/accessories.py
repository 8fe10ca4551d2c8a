"""Accessories in figure units, as worn."""

from __future__ import annotations

from collections.abc import Callable

from clif_exp.toonworld.drawing.colours import INK
from clif_exp.toonworld.drawing.hats import GOLD
from clif_exp.toonworld.drawing.pen import CLOTH, Material, Pen
from clif_exp.toonworld.world import COLOURS


def _glasses(pen: Pen, *, alone: bool) -> None:
    frame, y = Material(INK, "accessory"), -0.78
    for side in (-1, 1):
        pen.ellipse(side * 0.118, y, 0.105, 0.098, frame)
        pen.limb((side * 0.215, y - 0.03), (side * 0.262, y - 0.045), 0.034, frame, joined=True)
    pen.limb((-0.03, y - 0.02), (0.03, y - 0.02), 0.032, frame, joined=True)
    for side in (-1, 1):
        pen.dot(side * 0.118, y, 0.080, 0.074, (190, 226, 246))
        if not alone:
            pen.dot(side * 0.112, y + 0.005, 0.036, 0.044, INK)
            pen.dot(side * 0.112 - 0.014, y - 0.014, 0.013, 0.016, (255, 255, 255))
        pen.line(
            [(side * 0.118 - 0.05, y - 0.005), (side * 0.118 - 0.02, y - 0.045)],
            (255, 255, 255),
            0.016,
        )


def _scarf(pen: Pen) -> None:
    wool, pale = Material(COLOURS["red"], "accessory", CLOTH), COLOURS["white"]
    pen.limb((0.105, -0.53), (0.135, -0.30), 0.095, wool)
    pen.mark([(0.083, -0.35), (0.181, -0.36), (0.185, -0.315), (0.088, -0.305)], pale)
    pen.ellipse(0, -0.545, 0.205, 0.068, wool)
    for x in (-0.12, 0.0, 0.12):
        pen.mark(
            [
                (x - 0.022, -0.612 + abs(x) * 0.12),
                (x + 0.022, -0.612 + abs(x) * 0.12),
                (x + 0.022, -0.478 - abs(x) * 0.12),
                (x - 0.022, -0.478 - abs(x) * 0.12),
            ],
            pale,
        )


def _necktie(pen: Pen) -> None:
    silk = Material((34, 40, 92), "accessory", CLOTH)
    pen.polygon(
        [(-0.028, -0.52), (0.028, -0.52), (0.068, -0.33), (0, -0.27), (-0.068, -0.33)], silk
    )
    for y in (-0.435, -0.365):
        width = 0.03 + (y + 0.52) * 0.22
        pen.line([(-width, y - 0.02), (width, y + 0.02)], GOLD, 0.026)
    pen.polygon([(-0.052, -0.56), (0.052, -0.56), (0.034, -0.495), (-0.034, -0.495)], silk)


def _eyepatch(pen: Pen) -> None:
    leather = Material((30, 26, 30), "accessory")
    pen.line([(-0.235, -0.90), (0.02, -0.83)], (30, 26, 30), 0.026)
    pen.line([(0.18, -0.77), (0.245, -0.72)], (30, 26, 30), 0.026)
    pen.polygon(
        [(0.015, -0.86), (0.20, -0.85), (0.195, -0.765), (0.11, -0.685), (0.03, -0.755)],
        leather,
    )


def _moustache(pen: Pen) -> None:
    hair = Material((60, 40, 30), "accessory")
    for side in (-1, 1):
        curl = [
            (side * x, y)
            for x, y in (
                (0.0, -0.675),
                (0.06, -0.69),
                (0.12, -0.655),
                (0.20, -0.70),
                (0.185, -0.625),
                (0.11, -0.595),
                (0.03, -0.61),
                (0.0, -0.63),
            )
        ]
        pen.polygon(curl, hair, joined=side == 1)


_OTHERS: dict[str, Callable[[Pen], None]] = {
    "scarf": _scarf,
    "necktie": _necktie,
    "eyepatch": _eyepatch,
    "moustache": _moustache,
}


def draw_accessory(pen: Pen, accessory: str, *, alone: bool = False) -> None:
    """Draw an accessory over the head; "none" draws nothing.

    Args:
        pen: draws it.
        accessory: a value of its slot.
        alone: nobody wears it, so that no eyes show through glasses.
    """
    if accessory == "glasses":
        _glasses(pen, alone=alone)
    elif accessory != "none":
        _OTHERS[accessory](pen)
