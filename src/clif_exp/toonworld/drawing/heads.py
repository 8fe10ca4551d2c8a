"""Heads of every species, in figure units around a head centred at (0, -0.77)."""

from __future__ import annotations

from clif_exp.toonworld.drawing.animals import draw_animal
from clif_exp.toonworld.drawing.colours import RGB
from clif_exp.toonworld.drawing.pen import FUR, SMOOTH, Material, Pen
from clif_exp.toonworld.drawing.people import (
    METAL,
    draw_alien,
    draw_person,
    draw_robot,
    fur,
)
from clif_exp.toonworld.world import COLOURS, PEOPLE, SKIN_TONES, Character


def skin_colour(character: Character, coat: RGB) -> RGB:
    """What bare arms and legs are made of."""
    if character.species in PEOPLE:
        return SKIN_TONES[character.skin]
    return METAL if character.species == "robot" else coat


def limb_material(character: Character, coat: RGB, part: str) -> Material:
    """What a character's bare arms or legs are painted with."""
    smooth = character.species in PEOPLE or character.species in ("robot", "alien")
    return Material(skin_colour(character, coat), part, SMOOTH if smooth else FUR)


def draw_back_hair(pen: Pen, species: str, hair: RGB) -> None:
    """Draw the hair that lies behind the head."""
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
    """Draw the head with its face, over the ears and hair behind it."""
    species = character.species
    if species in PEOPLE:
        draw_person(pen, character, coat)
    elif species == "robot":
        draw_robot(pen, coat)
    elif species == "alien":
        draw_alien(pen, coat)
    else:
        draw_animal(pen, species, coat)
