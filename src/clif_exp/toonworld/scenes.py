"""Samples characters and scenes: the distribution that ToonWorld's base models are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from clif_exp.toonworld.placing import place_pair, place_single, place_standing
from clif_exp.toonworld.world import (
    BASE_SLOTS,
    CAST_ONLY,
    COLOURS,
    CONTEXTS,
    FAMILIES,
    FAMILY_OF,
    PEOPLE,
    SKIN_TONES,
    SPECIES,
    STYLES,
    Character,
    Item,
    Scene,
)

KIND_SHARES = {
    "single": 0.36,
    "single_white": 0.10,
    "pair": 0.32,
    "pair_white": 0.10,
    "parts": 0.08,
    "row": 0.04,
}
PLACES = CONTEXTS[:-1]
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


def _pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    return values[int(rng.integers(len(values)))]


def sample_character(
    rng: np.random.Generator, *, style: str | None = None, allow_cast_only: bool = False
) -> Character:
    """Draw a character; with `allow_cast_only` about half have a feature base models never see."""
    species = _pick(rng, SPECIES)
    natural = _NATURAL_COATS.get(species, _NATURAL_HAIR)
    hat = "none" if rng.random() < 0.28 else _pick(rng, BASE_SLOTS["hat"][1:])
    top = _pick(rng, ("shirt", "shirt", "jacket", "jacket", "hoodie", "hoodie", "dress"))
    accessory = "none" if rng.random() < 0.52 else _pick(rng, BASE_SLOTS["accessory"][1:])
    values = {
        "species": species,
        "style": style or _pick(rng, STYLES),
        "coat": _pick(rng, natural) if rng.random() < 0.6 else _pick(rng, PAINTS),
        "hat": hat,
        "hat_colour": "none" if hat == "none" else _pick(rng, PAINTS),
        "top": top,
        "top_colour": _pick(rng, PAINTS),
        "pattern": "plain" if rng.random() < 0.4 else _pick(rng, BASE_SLOTS["pattern"][1:]),
        "bottom": "none" if top == "dress" else _pick(rng, BASE_SLOTS["bottom"][1:]),
        "bottom_colour": "none" if top == "dress" else _pick(rng, PAINTS),
        "accessory": accessory,
    }
    if allow_cast_only:
        for slot, extra in CAST_ONLY.items():
            if values[slot] != "none" and rng.random() < 0.12:
                values[slot] = _pick(rng, extra)
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
        else _pick(rng, FAMILIES[FAMILY_OF[character.species]])
    )
    return replace(other, species=species, skin=character.skin if species in PEOPLE else 0, **kept)


def sample_item(
    rng: np.random.Generator,
    *,
    part: str | None = None,
    style: str,
    x: float,
    y: float,
    scale: float,
) -> Item:
    """Draw a part on its own; at `scale` 1 it fills much of the canvas."""
    part = part or _pick(rng, ("hat", "hat", "top", "top", "bottom", "accessory"))
    kind = _pick(rng, tuple(value for value in BASE_SLOTS[part] if value != "none"))
    colour = "none" if part == "accessory" else _pick(rng, PAINTS)
    pattern = _pick(rng, BASE_SLOTS["pattern"]) if part == "top" else "plain"
    widest = {"hat": 1.15, "top": 1.15, "bottom": 1.65, "accessory": 1.5}[part]
    return Item(
        part,
        kind,
        colour,
        x,
        y,
        round(float(scale * widest), 4),
        pattern,
        style,
        bool(rng.random() < 0.5),
    )


def _parts(rng: np.random.Generator, seed: int, allow_cast_only: bool) -> Scene:
    style, roll = _pick(rng, STYLES), rng.random()
    if roll < 0.5:
        item = sample_item(
            rng,
            style=style,
            x=rng.uniform(0.42, 0.58),
            y=rng.uniform(0.42, 0.58),
            scale=rng.uniform(0.55, 1.0),
        )
        return Scene((), kind="parts", seed=seed, items=(item,))
    side = -1 if rng.random() < 0.5 else 1
    item = sample_item(
        rng,
        style=style,
        x=0.5 + side * rng.uniform(0.23, 0.25),
        y=rng.uniform(0.4, 0.6),
        scale=rng.uniform(0.42, 0.60),
    )
    if roll < 0.75:
        other = sample_item(
            rng,
            style=style,
            x=0.5 - side * rng.uniform(0.23, 0.25),
            y=rng.uniform(0.4, 0.6),
            scale=rng.uniform(0.42, 0.60),
        )
        return Scene((), kind="parts", seed=seed, items=(item, other))
    who = sample_character(rng, style=style, allow_cast_only=allow_cast_only)
    figure = place_standing(
        rng, who, x=0.5 - side * 0.24, y=rng.uniform(0.88, 0.96), scale=rng.uniform(0.5, 0.6)
    )
    return Scene((figure,), kind="parts", seed=seed, items=(item,))


def _companions(rng: np.random.Generator, count: int, allow_cast_only: bool) -> list[Character]:
    people = [sample_character(rng, allow_cast_only=allow_cast_only)]
    while len(people) < count:
        roll = rng.random()
        if roll < 0.25:
            people.append(look_alike(rng, people[0], allow_cast_only=allow_cast_only))
        else:
            people.append(
                sample_character(
                    rng,
                    style=people[0].style if roll < 0.75 else None,
                    allow_cast_only=allow_cast_only,
                )
            )
    return people


def sample_scene(
    rng: np.random.Generator, *, kind: str | None = None, allow_cast_only: bool = False
) -> Scene:
    """Draw a scene.

    Args:
        rng: the only source of chance.
        kind: one of `KIND_SHARES`; drawn by those shares when missing.
        allow_cast_only: also draw what base models must never see.
    """
    if kind is None:
        kind = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    if kind not in KIND_SHARES:
        raise ValueError(f"kind={kind!r} is unknown. Choose one of {', '.join(KIND_SHARES)}.")
    seed = int(rng.integers(2**31))
    context = "white" if kind.endswith("white") or kind == "parts" else _pick(rng, PLACES)
    if kind == "parts":
        return _parts(rng, seed, allow_cast_only)
    if kind.startswith("single"):
        who = sample_character(rng, allow_cast_only=allow_cast_only)
        return Scene(place_single(rng, who, white=context == "white"), context, None, kind, seed)
    if kind.startswith("pair"):
        interactions = (
            ("next to", "left of")
            if kind == "pair_white"
            else ("next to", "left of", "hugging", "behind", "riding")
        )
        interaction = _pick(rng, interactions)
        first, second = _companions(rng, 2, allow_cast_only)
        return Scene(place_pair(rng, first, second, interaction), context, interaction, kind, seed)
    if rng.random() < 0.3:
        context = "white"
    y, scale = rng.uniform(0.88, 0.95), rng.uniform(0.37, 0.40)
    row = tuple(
        place_standing(rng, who, x=x, y=y, scale=scale)
        for who, x in zip(_companions(rng, 3, allow_cast_only), (0.17, 0.5, 0.83), strict=True)
    )
    return Scene(row, context, "in a row", kind, seed)
