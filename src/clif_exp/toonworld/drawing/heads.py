"""Heads, faces, ears, hair and tails of every species, in figure units around a head centred at (0,
-0.77).
"""

from __future__ import annotations

from clif_exp.toonworld.drawing.pen import (
    FUR,
    INK,
    RGB,
    SMOOTH,
    Material,
    Pen,
    darker,
    lighter,
    luminance,
    mix,
)
from clif_exp.toonworld.drawing.people import (
    HEAD_Y,
    METAL,
    ROSE,
    WHITE,
    draw_alien,
    draw_eyes,
    draw_person,
    draw_robot,
    fur,
)
from clif_exp.toonworld.world import COLOURS, PEOPLE, SKIN_TONES, Character


def skin_colour(character: Character, coat: RGB) -> RGB:
    """What bare arms and legs are made of."""
    if character.species in PEOPLE:
        return SKIN_TONES[character.skin]
    if character.species == "robot":
        return METAL
    if character.species == "panda":
        return coat
    return coat


def limb_material(character: Character, coat: RGB, part: str) -> Material:
    smooth = character.species in PEOPLE or character.species in ("robot", "alien")
    return Material(skin_colour(character, coat), part, SMOOTH if smooth else FUR)


def draw_tail(pen: Pen, species: str, coat: RGB) -> None:
    """What shows behind the body; to the viewer's right unless flipped."""
    tail, tip = fur(coat, "tail"), None
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
        tip = WHITE
        pen.ellipse(0.27, -0.24, 0.10, 0.19, tail, angle=32)
        pen.ellipse(0.325, -0.345, 0.06, 0.085, fur(tip, "tail"), angle=28, joined=True)
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


def _ear_pair(pen: Pen, points, outer: RGB, inner: RGB | None, shrink: float = 0.55) -> None:
    """Two mirrored pointed ears given the right one's corners."""
    cx, cy = sum(p[0] for p in points) / len(points), sum(p[1] for p in points) / len(points)
    for side in (-1, 1):
        pen.polygon([(side * x, y) for x, y in points], fur(outer, "hair"))
        if inner is not None:
            pen.polygon(
                [
                    (side * (cx + (x - cx) * shrink), cy + 0.015 + (y - cy) * shrink)
                    for x, y in points
                ],
                fur(inner, "hair"),
                joined=True,
            )


def draw_ears(pen: Pen, species: str, coat: RGB) -> None:
    """Ears that grow behind the head."""
    dark = darker(coat, 0.55) if luminance(coat) > 75 else lighter(coat, 0.4)
    if species == "cat":
        _ear_pair(pen, [(0.08, -0.97), (0.235, -1.13), (0.262, -0.84)], coat, ROSE)
    elif species == "lynx":
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
    elif species == "fox":
        _ear_pair(pen, [(0.05, -0.96), (0.235, -1.19), (0.275, -0.83)], coat, WHITE, 0.5)
        for side in (-1, 1):
            pen.polygon(
                [(side * x, y) for x, y in ((0.174, -1.115), (0.235, -1.19), (0.250, -1.065))],
                fur(INK, "hair"),
                joined=True,
            )
    elif species == "wolf":
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
    elif species in ("bear", "panda"):
        for side in (-1, 1):
            pen.ellipse(side * 0.205, -0.955, 0.085, 0.085, fur(coat, "hair"))
            if species == "bear":
                pen.ellipse(
                    side * 0.205, -0.95, 0.045, 0.045, fur(lighter(coat, 0.45), "hair"), joined=True
                )
    elif species == "rabbit":
        for side in (-1, 1):
            pen.ellipse(side * 0.175, -1.07, 0.065, 0.20, fur(coat, "hair"), angle=side * 16)
            pen.ellipse(
                side * 0.178, -1.08, 0.034, 0.15, fur(ROSE, "hair"), angle=side * 16, joined=True
            )
    elif species == "mouse":
        for side in (-1, 1):
            pen.ellipse(side * 0.25, -0.965, 0.135, 0.135, fur(coat, "hair"))
            pen.ellipse(side * 0.255, -0.96, 0.09, 0.09, fur(ROSE, "hair"), joined=True)
    elif species == "robot":
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
    elif species == "alien":
        for side in (-1, 1):
            pen.limb((side * 0.15, -0.93), (side * 0.235, -1.10), 0.036, Material(coat, "hair"))
            pen.ellipse(side * 0.245, -1.12, 0.048, 0.048, Material(COLOURS["yellow"], "hair"))


def draw_back_hair(pen: Pen, species: str, hair: RGB) -> None:
    material = fur(hair, "hair")
    if species == "woman":
        pen.ellipse(0, -0.78, 0.292, 0.26, material)
        pen.polygon(
            [
                (-0.292, -0.80),
                (0.292, -0.80),
                (0.305, -0.47),
                (0.17, -0.42),
                (-0.17, -0.42),
                (-0.305, -0.47),
            ],
            material,
            joined=True,
        )
    elif species == "girl":
        for side in (-1, 1):
            pen.ellipse(side * 0.315, -0.70, 0.075, 0.15, material, angle=side * -14)
            pen.ellipse(side * 0.272, -0.83, 0.035, 0.035, Material(COLOURS["white"], "hair"))


def draw_head(pen: Pen, character: Character, coat: RGB) -> None:
    """The head with its face; ears and hair behind it must be there already."""
    species = character.species
    if species in PEOPLE:
        draw_person(pen, character, coat)
    elif species == "robot":
        draw_robot(pen, coat)
    elif species == "alien":
        draw_alien(pen, coat)
    else:
        _animal(pen, species, coat)


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


def _animal(pen: Pen, species: str, coat: RGB) -> None:
    pale = lighter(coat, 0.72) if luminance(coat) < 225 else (224, 222, 220)
    contrast = INK if luminance(coat) > 90 else (214, 214, 220)
    wide = {"bear": 0.275, "panda": 0.285, "mouse": 0.245, "rabbit": 0.25, "lynx": 0.26}.get(
        species, 0.262
    )
    face = WHITE if species == "panda" else coat
    pen.ellipse(0, HEAD_Y, wide, 0.222, fur(face))
    if species == "fox":
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
    elif species == "wolf":
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
        pen.polygon(mask, fur(pale), joined=True)
        draw_eyes(pen, y=-0.785, size=0.050)
        for side in (-1, 1):
            pen.line([(side * 0.06, -0.868), (side * 0.145, -0.880)], contrast, 0.026)
        pen.dot(0, -0.685, 0.055, 0.038, INK)
        pen.arc(0, -0.635, 0.09, 0.035, 10, 170, INK, 0.014)
        for side in (-1, 1):
            pen.mark(
                [(side * 0.035, -0.605), (side * 0.075, -0.610), (side * 0.052, -0.570)], WHITE
            )
    elif species == "cat":
        for x in (-0.055, 0.0, 0.055):
            pen.line(
                [(x, -0.965), (x * 0.8, -0.90)],
                contrast if luminance(coat) < 90 else darker(coat, 0.45),
                0.022,
            )
        draw_eyes(pen, size=0.062)
        _snout(pen, pale, ROSE, rx=0.095, ry=0.062, nose_size=0.032)
        _whiskers(pen, contrast)
    elif species == "lynx":
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
            pen, WHITE if luminance(coat) < 225 else pale, INK, rx=0.125, ry=0.075, nose_size=0.036
        )
    elif species == "dog":
        pen.ellipse(0.105, -0.795, 0.088, 0.105, fur(pale), joined=True)
        draw_eyes(pen)
        _snout(pen, pale, INK, rx=0.135, ry=0.09, y=-0.65, nose_size=0.052)
        pen.mark(
            [(-0.032, -0.615), (0.032, -0.615), (0.03, -0.575), (0, -0.56), (-0.03, -0.575)],
            (238, 98, 112),
        )
        ear = darker(coat, 0.42) if luminance(coat) > 75 else lighter(coat, 0.35)
        for side in (-1, 1):
            pen.ellipse(side * 0.265, -0.79, 0.072, 0.165, fur(ear, "hair"), angle=side * -14)
    elif species == "bear":
        draw_eyes(pen, size=0.050, x=0.11)
        _snout(pen, pale, INK, rx=0.125, ry=0.092, y=-0.655, nose_size=0.055)
    elif species == "panda":
        patch = coat if luminance(coat) < 225 else (208, 208, 212)
        for side in (-1, 1):
            pen.ellipse(side * 0.118, -0.77, 0.082, 0.10, fur(patch), angle=side * 28, joined=True)
        draw_eyes(pen, size=0.048, x=0.108)
        _snout(pen, WHITE, INK, rx=0.085, ry=0.06, nose_size=0.042)
    elif species == "rabbit":
        draw_eyes(pen, size=0.060)
        _snout(pen, pale, ROSE, rx=0.095, ry=0.062, y=-0.665, nose_size=0.032)
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
    elif species == "mouse":
        draw_eyes(pen, size=0.058, x=0.095)
        pen.ellipse(0, -0.65, 0.085, 0.072, fur(pale), joined=True)
        pen.dot(0, -0.68, 0.048, 0.042, (238, 108, 132))
        pen.arc(0, -0.632, 0.045, 0.026, 10, 170, INK, 0.013)
        _whiskers(pen, contrast)
    if species in ("cat", "rabbit", "mouse", "panda", "bear"):
        for side in (-1, 1):
            pen.dot(side * 0.185, -0.695, 0.036, 0.022, mix(face, (250, 120, 130), 0.45))
