"""Bodies and clothes below the head, in figure units and in every pose; garments on their own."""

from __future__ import annotations

from dataclasses import dataclass

from clif_exp.toonworld.drawing.colours import RGB, darker, lighter, luminance
from clif_exp.toonworld.drawing.pen import CLOTH, Material, Pen
from clif_exp.toonworld.drawing.pen import Point as P
from clif_exp.toonworld.world import COLOURS

LONG_SLEEVED = ("jacket", "hoodie")
SHOE: RGB = (74, 62, 66)


@dataclass(frozen=True)
class Outfit:
    """Resolved colours of what a figure wears; `limb_*` paint its bare arms and legs."""

    top: str
    top_colour: RGB
    pattern: str
    bottom: str
    bottom_colour: RGB
    limb_arms: Material | None  # None: a garment without a wearer
    limb_legs: Material | None

    @property
    def cloth(self) -> Material:
        return Material(self.top_colour, "top", CLOTH, self.pattern)

    @property
    def bottom_cloth(self) -> Material:
        return Material(self.bottom_colour, "bottom", CLOTH)


def seam(colour: RGB) -> RGB:
    """A line's colour that shows on a cloth."""
    return darker(colour, 0.45) if luminance(colour) > 75 else lighter(colour, 0.35)


def draw_legs(pen: Pen, outfit: Outfit, pose: str) -> None:
    """Draw legs, feet and the bottom garment of a standing or sitting figure."""
    if pose == "sit":
        _sitting_legs(pen, outfit)
        return
    if outfit.limb_legs is not None:
        for side in (-1, 1):
            pen.limb((side * 0.085, -0.27), (side * 0.095, -0.05), 0.105, outfit.limb_legs)
            pen.ellipse(side * 0.112, -0.035, 0.082, 0.046, Material(SHOE, "legs"))
    if outfit.bottom in ("trousers", "shorts"):
        _trousers(pen, outfit)
    elif outfit.bottom == "skirt":
        _skirt(pen, outfit)


def _trousers(pen: Pen, outfit: Outfit) -> None:
    hem = -0.065 if outfit.bottom == "trousers" else -0.165
    for side in (-1, 1):
        leg = [
            (side * 0.0, -0.30),
            (side * 0.165, -0.30),
            (side * (0.165 if hem > -0.1 else 0.19), hem),
            (side * 0.025, hem),
        ]
        pen.polygon(leg, outfit.bottom_cloth)
    hips = [(-0.165, -0.32), (0.165, -0.32), (0.165, -0.245), (-0.165, -0.245)]
    pen.polygon(hips, outfit.bottom_cloth, joined=True)
    pen.line([(0, -0.25), (0, -0.20)], seam(outfit.bottom_colour), 0.014)
    if outfit.limb_legs is None:
        pen.line([(-0.155, -0.285), (0.155, -0.285)], seam(outfit.bottom_colour), 0.014)


def _skirt(pen: Pen, outfit: Outfit) -> None:
    skirt = [
        (-0.15, -0.32),
        (0.15, -0.32),
        (0.255, -0.125),
        (0.13, -0.105),
        (-0.13, -0.105),
        (-0.255, -0.125),
    ]
    pen.polygon(skirt, outfit.bottom_cloth)
    for x in (-0.5, 0.0, 0.5):
        fold = [(0.15 * x * 1.2, -0.27), (0.255 * x * 1.3, -0.115)]
        pen.line(fold, seam(outfit.bottom_colour), 0.013)


def _sitting_legs(pen: Pen, outfit: Outfit) -> None:
    """Knees to the viewer, feet dangling."""
    bare = outfit.limb_legs
    assert bare is not None, "only a wearer can sit"
    covered = (
        Material(outfit.bottom_colour, "bottom", CLOTH) if outfit.bottom != "none" else outfit.cloth
    )
    for side in (-1, 1):
        pen.limb(
            (side * 0.11, -0.24),
            (side * 0.15, -0.02),
            0.10,
            covered if outfit.bottom == "trousers" else bare,
        )
        pen.ellipse(side * 0.165, 0.015, 0.075, 0.050, Material(SHOE, "legs"))
    if outfit.bottom == "skirt" or outfit.bottom == "none":
        pen.polygon([(-0.15, -0.32), (0.15, -0.32), (0.245, -0.15), (-0.245, -0.15)], covered)
    else:
        for side in (-1, 1):
            pen.limb((side * 0.07, -0.26), (side * 0.12, -0.17), 0.135, covered)


def draw_torso(pen: Pen, outfit: Outfit) -> None:
    """Draw the upper body without arms."""
    if outfit.top == "dress":
        _dress(pen, outfit)
        return
    low = {"jacket": -0.262, "hoodie": -0.275}.get(outfit.top, -0.295)
    torso = [
        (-0.13, -0.60),
        (0.13, -0.60),
        (0.185, -0.50),
        (0.19, low - 0.03),
        (0.165, low),
        (-0.165, low),
        (-0.19, low - 0.03),
        (-0.185, -0.50),
    ]
    pen.polygon(torso, outfit.cloth, axes=((0, -0.43), (0.21, 0), (0, 0.32)))
    if outfit.top == "jacket":
        _jacket_front(pen, outfit.top_colour, low)
    elif outfit.top == "hoodie":
        _pocket(pen, outfit.top_colour)
    elif outfit.limb_arms is None:
        pen.arc(0, -0.60, 0.075, 0.05, 0, 180, seam(outfit.top_colour), 0.02)


def _dress(pen: Pen, outfit: Outfit) -> None:
    dress = [
        (-0.12, -0.60),
        (0.12, -0.60),
        (0.165, -0.40),
        (0.27, -0.115),
        (0.14, -0.09),
        (-0.14, -0.09),
        (-0.27, -0.115),
        (-0.165, -0.40),
    ]
    pen.polygon(dress, outfit.cloth, axes=((0, -0.34), (0.24, 0), (0, 0.36)))
    pen.line([(-0.165, -0.385), (0.165, -0.385)], seam(outfit.top_colour), 0.034)


def _jacket_front(pen: Pen, colour: RGB, low: float) -> None:
    """Lining, lapels and buttons; `low` is the jacket's lower edge."""
    lining = [(-0.075, -0.60), (0.075, -0.60), (0.052, low), (-0.052, low)]
    pen.polygon(lining, Material(_lining(colour), "top", CLOTH))
    for side in (-1, 1):
        lapel = [
            (side * 0.05, -0.60),
            (side * 0.15, -0.585),
            (side * 0.145, -0.47),
            (side * 0.062, -0.40),
        ]
        pen.polygon(lapel, Material(darker(colour, 0.28), "top", CLOTH))
    for y in (-0.37, -0.305):
        shows_yellow = colour[2] > 90 or colour[0] < 200
        pen.dot(0.092, y, 0.019, 0.019, COLOURS["yellow"] if shows_yellow else SHOE)


def _pocket(pen: Pen, colour: RGB) -> None:
    paint = darker(colour, 0.22) if luminance(colour) > 75 else lighter(colour, 0.2)
    pocket = [(-0.085, -0.385), (0.085, -0.385), (0.125, -0.298), (-0.125, -0.298)]
    pen.polygon(pocket, Material(paint, "top", CLOTH))


def _lining(colour: RGB) -> RGB:
    return COLOURS["white"] if luminance(colour) < 200 else (96, 104, 122)


def draw_hood(pen: Pen, outfit: Outfit) -> None:
    """Draw what lies behind the head and shoulders: a hoodie's hood."""
    if outfit.top == "hoodie":
        pen.ellipse(0, -0.60, 0.235, 0.095, Material(darker(outfit.top_colour, 0.12), "top", CLOTH))


def draw_collar(pen: Pen, outfit: Outfit) -> None:
    """Draw what lies over the arms: a hoodie's strings, a shirt's collar."""
    if outfit.top == "hoodie":
        pen.ellipse(0, -0.565, 0.16, 0.058, Material(darker(outfit.top_colour, 0.3), "top", CLOTH))
        string = COLOURS["white"] if luminance(outfit.top_colour) < 200 else SHOE
        for side in (-1, 1):
            pen.line([(side * 0.055, -0.53), (side * 0.06, -0.44)], string, 0.02)
    elif outfit.top == "shirt":
        pale = luminance(outfit.top_colour) >= 225
        paint = (206, 208, 214) if pale else lighter(outfit.top_colour, 0.45)
        for side in (-1, 1):
            wing = [
                (side * 0.0, -0.555),
                (side * 0.12, -0.60),
                (side * 0.125, -0.525),
                (side * 0.055, -0.49),
            ]
            pen.polygon(
                wing,
                Material(paint, "top", CLOTH),
            )


_ARMS: dict[str, tuple[tuple[P, P, P], tuple[P, P, P]]] = {
    # shoulder, elbow, hand of the viewer's left and right arm
    "down": (
        ((-0.16, -0.52), (-0.235, -0.42), (-0.26, -0.31)),
        ((0.16, -0.52), (0.235, -0.42), (0.26, -0.31)),
    ),
    "up": (
        ((-0.16, -0.52), (-0.235, -0.42), (-0.26, -0.31)),
        ((0.16, -0.50), (0.275, -0.53), (0.355, -0.66)),
    ),
    "reach": (
        ((-0.15, -0.50), (-0.06, -0.39), (0.12, -0.37)),
        ((0.15, -0.51), (0.27, -0.47), (0.39, -0.45)),
    ),
    "sit": (
        ((-0.16, -0.52), (-0.245, -0.44), (-0.20, -0.32)),
        ((0.16, -0.52), (0.245, -0.44), (0.20, -0.32)),
    ),
    "item": (
        ((-0.15, -0.53), (-0.27, -0.46), (-0.33, -0.36)),
        ((0.15, -0.53), (0.27, -0.46), (0.33, -0.36)),
    ),
}


def draw_arms(pen: Pen, outfit: Outfit, pose: str) -> None:
    """Draw arms with sleeves and hands."""
    for shoulder, elbow, hand in _ARMS[pose]:
        if outfit.limb_arms is not None:
            pen.limb(elbow, hand, 0.075, outfit.limb_arms)
            pen.ellipse(*hand, 0.056, 0.056, outfit.limb_arms)
        end = (elbow[0] + (hand[0] - elbow[0]) * 0.72, elbow[1] + (hand[1] - elbow[1]) * 0.72)
        if outfit.top in LONG_SLEEVED:
            pen.limb(shoulder, elbow, 0.125, outfit.cloth)
            pen.limb(elbow, end, 0.115, outfit.cloth, joined=True, end_width=0.105)
        else:
            if outfit.limb_arms is not None:
                pen.limb(shoulder, elbow, 0.085, outfit.limb_arms)
            share = 0.85 if outfit.top == "shirt" else 0.25
            end = (
                shoulder[0] + (elbow[0] - shoulder[0]) * share,
                shoulder[1] + (elbow[1] - shoulder[1]) * share,
            )
            pen.limb(shoulder, end, 0.125, outfit.cloth, end_width=0.14)


def draw_on_all_fours(pen: Pen, outfit: Outfit) -> None:
    """Draw a body from the side, head end to the viewer's left; the head moves by (-0.26, 0.14)."""
    assert outfit.limb_arms is not None
    assert outfit.limb_legs is not None
    rear = outfit.cloth if outfit.bottom == "none" else outfit.bottom_cloth
    for x in (0.42, 0.27):
        pen.limb((x, -0.28), (x, -0.05), 0.11, outfit.limb_legs)
        pen.ellipse(x - 0.02, -0.035, 0.078, 0.046, Material(SHOE, "legs"))
        hem = -0.10 if outfit.bottom == "trousers" else -0.20
        pen.limb((x, -0.30), (x, hem), 0.145, rear)
    for x in (0.0, -0.20):
        pen.limb((x, -0.28), (x, -0.05), 0.10, outfit.limb_arms)
        pen.ellipse(x - 0.015, -0.045, 0.060, 0.052, outfit.limb_arms)
        pen.limb(
            (x, -0.30), (x, -0.13 if outfit.top in LONG_SLEEVED else -0.22), 0.13, outfit.cloth
        )
    pen.ellipse(0.315, -0.36, 0.19, 0.155, rear)
    body = [
        (-0.30, -0.40),
        (-0.24, -0.50),
        (0.18, -0.515),
        (0.225, -0.36),
        (0.18, -0.215),
        (-0.24, -0.215),
        (-0.30, -0.30),
    ]
    pen.polygon(body, outfit.cloth, axes=((-0.02, -0.36), (0.46, 0), (0, 0.20)))
    if outfit.bottom == "skirt" or outfit.top == "dress":
        pen.polygon(
            [(0.16, -0.50), (0.28, -0.52), (0.53, -0.24), (0.48, -0.17), (0.16, -0.19)], rear
        )
