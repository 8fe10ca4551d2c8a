"""Samples characters and scenes: the distribution that ToonWorld's base models are trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

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
    Figure,
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
_HAT_HEIGHTS = {
    "none": 1.0,
    "cap": 1.14,
    "crown": 1.21,
    "beanie": 1.21,
    "top hat": 1.25,
    "wizard hat": 1.36,
    "feather hat": 1.34,
    "horned helmet": 1.23,
}
_EAR_HEIGHTS = {
    "rabbit": 1.27,
    "lynx": 1.22,
    "fox": 1.19,
    "alien": 1.17,
    "wolf": 1.15,
    "cat": 1.13,
    "robot": 1.14,
    "mouse": 1.10,
    "boy": 1.08,
}
HALF_WIDTH = 0.42  # of a standing figure with a tail or a raised arm, in figure units
CARRY_EXTENT = (-0.62, 0.60)
SEAT = (0.27, -0.53)  # where on a carrying figure somebody sits, and
SEATED = -0.24  # which height of the rider rests there, both in figure units


def _pick(rng: np.random.Generator, values):
    return values[int(rng.integers(len(values)))]


def sample_character(
    rng: np.random.Generator, *, style: str | None = None, allow_cast_only: bool = False
) -> Character:
    """Draw somebody; with `allow_cast_only`, about half of them have a feature that base models
    never see.
    """
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
    """Somebody of the same family and style who shares about half of the other attributes."""
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


def height(character: Character) -> float:
    """Height with hat and ears, in figure units."""
    return max(_HAT_HEIGHTS[character.hat], _EAR_HEIGHTS.get(character.species, 1.04)) + 0.02


def _standing(
    rng: np.random.Generator,
    character: Character,
    *,
    x: float,
    y: float,
    scale: float,
    pose: str | None = None,
    flip: bool | None = None,
) -> Figure:
    """A figure moved and shrunk as little as it takes to stand inside the image."""
    scale = min(scale, (y - 0.012) / height(character))
    half = HALF_WIDTH * scale
    x = float(np.clip(x, half + 0.005, 0.995 - half))
    pose = pose or ("up" if rng.random() < 0.35 else "down")
    flip = bool(rng.random() < 0.5) if flip is None else flip
    return Figure(character, round(x, 4), round(y, 4), round(float(scale), 4), flip, pose)


def place_single(
    rng: np.random.Generator, character: Character, *, white: bool, pose: str | None = None
) -> tuple[Figure, ...]:
    """Put one character into the middle of an image; more varied in size and height on a white
    canvas.
    """
    y = rng.uniform(0.86, 0.965) if white else rng.uniform(0.92, 0.965)
    scale = rng.uniform(0.52, 0.74) if white else rng.uniform(0.60, 0.74)
    return (_standing(rng, character, x=rng.normal(0.5, 0.08), y=y, scale=scale, pose=pose),)


def place_pair(
    rng: np.random.Generator, first: Character, second: Character, interaction: str
) -> tuple[Figure, ...]:
    """Put two characters together so that `first interaction second` is true of the image."""
    y, scale = rng.uniform(0.925, 0.965), rng.uniform(0.53, 0.61)
    side = -1 if rng.random() < 0.5 else 1  # where the first one goes
    if interaction in ("next to", "left of"):
        side = -1 if interaction == "left of" else side
        return tuple(
            _standing(
                rng,
                who,
                x=0.5 + where * side * rng.uniform(0.235, 0.26),
                y=y + rng.uniform(-0.01, 0.01),
                scale=scale * rng.uniform(0.96, 1.04),
            )
            for who, where in ((first, 1), (second, -1))
        )
    if interaction == "hugging":
        middle, apart = rng.uniform(0.46, 0.54), scale * rng.uniform(0.255, 0.275)
        return tuple(
            _standing(
                rng,
                who,
                x=middle + where * side * apart,
                y=y,
                scale=scale,
                pose="reach",
                flip=where * side > 0,
            )
            for who, where in ((first, 1), (second, -1))
        )
    if interaction == "behind":
        # Some stand so far behind that little but their head and hat is to be seen.
        deep = rng.random() < 0.4
        middle, apart = (
            rng.uniform(0.46, 0.54),
            scale * (rng.uniform(0.07, 0.11) if deep else rng.uniform(0.14, 0.22)),
        )
        back_y = y - (rng.uniform(0.14, 0.18) if deep else rng.uniform(0.07, 0.09))
        back = _standing(rng, first, x=middle + side * apart, y=back_y, scale=scale * 0.97)
        return back, _standing(rng, second, x=middle - side * apart, y=y, scale=scale, pose="down")
    assert interaction == "riding", interaction
    scale = rng.uniform(0.54, 0.60)
    flip = bool(rng.random() < 0.5)
    turn = -1 if flip else 1
    low, high = CARRY_EXTENT if not flip else (-CARRY_EXTENT[1], -CARRY_EXTENT[0])
    x = float(
        np.clip(
            rng.uniform(0.46, 0.54) + 0.05 * scale * turn, 0.005 - low * scale, 0.995 - high * scale
        )
    )
    mount = Figure(second, round(x, 4), round(y, 4), round(scale, 4), flip, "carry")
    small = scale * 0.84
    seat_y = y + SEAT[1] * scale - SEATED * small
    small = min(small, (seat_y - 0.012) / height(first))
    seat_y = y + SEAT[1] * scale - SEATED * small
    rider = Figure(
        first,
        round(x + turn * SEAT[0] * scale, 4),
        round(seat_y, 4),
        round(small, 4),
        bool(rng.random() < 0.5),
        "sit",
    )
    return rider, mount


def sample_item(
    rng: np.random.Generator,
    *,
    part: str | None = None,
    style: str,
    x: float,
    y: float,
    scale: float,
) -> Item:
    """Draw a part on its own; `scale` = 1 makes it fill a good part of the canvas."""
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
    figure = _standing(
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
        _standing(rng, who, x=x, y=y, scale=scale)
        for who, x in zip(_companions(rng, 3, allow_cast_only), (0.17, 0.5, 0.83), strict=True)
    )
    return Scene(row, context, "in a row", kind, seed)
