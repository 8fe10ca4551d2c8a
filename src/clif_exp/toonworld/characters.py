"""Samples characters: whom ToonWorld's base models are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from clif_exp.toonworld.world import (
    BASE_SLOTS,
    CAST_ONLY,
    COLOURS,
    FAMILIES,
    FAMILY_OF,
    PEOPLE,
    SKIN_TONES,
    SPECIES,
    STYLES,
    Character,
)

PAINTS = tuple(colour for colour in COLOURS if colour != "teal")


_NATURAL_COATS = {
    "cat": ("orange", "grey", "black", "white"),
    "lynx": ("brown", "orange", "grey"),
    "fox": ("orange", "red", "white"),
    "dog": ("brown", "yellow", "white", "black"),
    "wolf": ("grey", "black", "white"),
    "bear": ("brown", "black", "white"),
    "panda": ("black", "brown"),
    "rabbit": ("white", "grey", "brown"),
    "mouse": ("grey", "brown", "white"),
    "robot": ("grey", "blue", "red", "yellow"),
    "alien": ("green", "purple", "blue", "pink"),
}


_NATURAL_HAIR = ("black", "brown", "yellow", "orange", "red", "white")


def pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    """Draw one of some values, all equally likely."""
    return values[int(rng.integers(len(values)))]


def sample_character(
    rng: np.random.Generator, *, style: str | None = None, allow_cast_only: bool = False
) -> Character:
    """Draw a character; with `allow_cast_only` about half have a feature base models never see."""
    species = pick(rng, SPECIES)
    natural = _NATURAL_COATS.get(species, _NATURAL_HAIR)
    hat = "none" if rng.random() < 0.28 else pick(rng, BASE_SLOTS["hat"][1:])
    top = pick(rng, ("shirt", "shirt", "jacket", "jacket", "hoodie", "hoodie", "dress"))
    accessory = "none" if rng.random() < 0.52 else pick(rng, BASE_SLOTS["accessory"][1:])
    values = {
        "species": species,
        "style": style or pick(rng, STYLES),
        "coat": pick(rng, natural) if rng.random() < 0.6 else pick(rng, PAINTS),
        "hat": hat,
        "hat_colour": "none" if hat == "none" else pick(rng, PAINTS),
        "top": top,
        "top_colour": pick(rng, PAINTS),
        "pattern": "plain" if rng.random() < 0.4 else pick(rng, BASE_SLOTS["pattern"][1:]),
        "bottom": "none" if top == "dress" else pick(rng, BASE_SLOTS["bottom"][1:]),
        "bottom_colour": "none" if top == "dress" else pick(rng, PAINTS),
        "accessory": accessory,
    }
    if allow_cast_only:
        for slot, extra in CAST_ONLY.items():
            if values[slot] != "none" and rng.random() < 0.12:
                values[slot] = pick(rng, extra)
    return Character(**values, skin=int(rng.integers(len(SKIN_TONES))) if species in PEOPLE else 0)


def look_alike(
    rng: np.random.Generator, character: Character, *, allow_cast_only: bool = False
) -> Character:
    """Draw a character of the same family and style with about half of the other attributes."""
    other = sample_character(rng, style=character.style, allow_cast_only=allow_cast_only)
    groups = (
        ("coat",),
        ("hat", "hat_colour"),
        ("top", "top_colour", "pattern", "bottom", "bottom_colour"),
        ("accessory",),
    )
    kept = {
        slot: getattr(character, slot) for slots in groups if rng.random() < 0.5 for slot in slots
    }
    species = (
        character.species
        if rng.random() < 0.6
        else pick(rng, FAMILIES[FAMILY_OF[character.species]])
    )
    return replace(other, species=species, skin=character.skin if species in PEOPLE else 0, **kept)
