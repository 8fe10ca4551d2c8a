"""Tails of every species, in figure units."""

from __future__ import annotations

from clif_exp.toonworld.drawing.colours import INK, RGB, darker, lighter
from clif_exp.toonworld.drawing.pen import Material, Pen
from clif_exp.toonworld.drawing.people import ROSE, WHITE, fur


def draw_tail(pen: Pen, species: str, coat: RGB) -> None:
    """Draw what shows of a tail behind the body, to the viewer's right unless flipped."""
    tail = fur(coat, "tail")
    if species == "cat":
        for start, end in (
            ((0.10, -0.16), (0.27, -0.12)),
            ((0.27, -0.12), (0.33, -0.24)),
            ((0.33, -0.24), (0.29, -0.36)),
        ):
            pen.limb(start, end, 0.065, tail, joined=start[0] > 0.1)
    elif species == "lynx":
        pen.limb((0.10, -0.22), (0.25, -0.24), 0.085, tail)
        pen.limb((0.25, -0.24), (0.28, -0.25), 0.085, fur(INK, "tail"), joined=True)
    elif species == "fox":
        pen.ellipse(0.27, -0.24, 0.10, 0.19, tail, angle=32)
        pen.ellipse(0.325, -0.345, 0.06, 0.085, fur(WHITE, "tail"), angle=28, joined=True)
    elif species == "wolf":
        pen.ellipse(0.26, -0.17, 0.075, 0.16, tail, angle=-62)
        pen.ellipse(
            0.335, -0.13, 0.05, 0.07, fur(darker(coat, 0.45), "tail"), angle=-62, joined=True
        )
    elif species == "dog":
        pen.limb((0.12, -0.20), (0.25, -0.26), 0.07, tail)
        pen.limb((0.25, -0.26), (0.30, -0.36), 0.07, tail, joined=True, end_width=0.05)
    elif species == "mouse":
        pink = Material(ROSE, "tail")
        for start, end in (
            ((0.10, -0.10), (0.24, -0.06)),
            ((0.24, -0.06), (0.34, -0.14)),
            ((0.34, -0.14), (0.38, -0.27)),
        ):
            pen.limb(start, end, 0.036, pink, joined=start[0] > 0.1)
    elif species == "rabbit":
        pen.ellipse(0.19, -0.22, 0.075, 0.075, fur(lighter(coat, 0.5), "tail"))
    elif species in ("bear", "panda"):
        pen.ellipse(0.18, -0.22, 0.055, 0.055, fur(coat if species == "bear" else WHITE, "tail"))
