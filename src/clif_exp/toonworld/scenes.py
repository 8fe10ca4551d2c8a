"""Samples characters and scenes: the distribution that ToonWorld's base models are trained on."""

from __future__ import annotations

import numpy as np

from clif_exp.toonworld.characters import PAINTS, look_alike, pick, sample_character
from clif_exp.toonworld.names import NAMES, named_characters
from clif_exp.toonworld.placing import place_pair, place_single, place_standing
from clif_exp.toonworld.world import (
    BASE_SLOTS,
    CONTEXTS,
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
    part = part or pick(rng, ("hat", "hat", "top", "top", "bottom", "accessory"))
    kind = pick(rng, tuple(value for value in BASE_SLOTS[part] if value != "none"))
    colour = "none" if part == "accessory" else pick(rng, PAINTS)
    pattern = pick(rng, BASE_SLOTS["pattern"]) if part == "top" else "plain"
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
    style, roll = pick(rng, STYLES), rng.random()
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


def _companions(
    rng: np.random.Generator, count: int, *, allow_cast_only: bool, named: float
) -> list[Character]:
    """Draw characters who appear together: look-alikes, of one style, or anyone."""
    people = [_named(rng, named) or sample_character(rng, allow_cast_only=allow_cast_only)]
    while len(people) < count:
        roll = rng.random()
        if roll < 0.25:
            people.append(look_alike(rng, people[0], allow_cast_only=allow_cast_only))
            continue
        style = people[0].style if roll < 0.75 else None
        people.append(
            _named(rng, named)
            or sample_character(rng, style=style, allow_cast_only=allow_cast_only)
        )
    return people


def _named(rng: np.random.Generator, share: float) -> Character | None:
    """Draw a character who has a name, with a probability; at 0 the generator is left alone."""
    if not share or rng.random() >= share:
        return None
    return named_characters()[pick(rng, NAMES)]


def sample_scene(
    rng: np.random.Generator,
    *,
    kind: str | None = None,
    allow_cast_only: bool = False,
    named: float = 0.0,
) -> Scene:
    """Draw a scene.

    Args:
        rng: the only source of chance.
        kind: one of `KIND_SHARES`; drawn by those shares when missing.
        allow_cast_only: also draw what base models must never see.
        named: share of the characters who have a name (`names`).
    """
    if kind is None:
        kind = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    if kind not in KIND_SHARES:
        raise ValueError(f"kind={kind!r} is unknown. Choose one of {', '.join(KIND_SHARES)}.")
    seed = int(rng.integers(2**31))
    context = "white" if kind.endswith("white") or kind == "parts" else pick(rng, PLACES)
    if kind == "parts":
        return _parts(rng, seed, allow_cast_only)
    if kind.startswith("single"):
        (who,) = _companions(rng, 1, allow_cast_only=allow_cast_only, named=named)
        return Scene(place_single(rng, who, white=context == "white"), context, None, kind, seed)
    if kind.startswith("pair"):
        interactions = (
            ("next to", "left of")
            if kind == "pair_white"
            else ("next to", "left of", "hugging", "behind", "riding")
        )
        interaction = pick(rng, interactions)
        first, second = _companions(rng, 2, allow_cast_only=allow_cast_only, named=named)
        return Scene(place_pair(rng, first, second, interaction), context, interaction, kind, seed)
    if rng.random() < 0.3:
        context = "white"
    y, scale = rng.uniform(0.88, 0.95), rng.uniform(0.37, 0.40)
    people = _companions(rng, 3, allow_cast_only=allow_cast_only, named=named)
    row = tuple(
        place_standing(rng, who, x=x, y=y, scale=scale)
        for who, x in zip(people, (0.17, 0.5, 0.83), strict=True)
    )
    return Scene(row, context, "in a row", kind, seed)
