"""Places characters on the canvas, so that they fit and stand as an interaction says."""

from __future__ import annotations

import numpy as np

from clif_exp.toonworld.world import Character, Figure

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
SEAT = (0.27, -0.53)  # where a rider sits on a carrying figure, in its figure units
SEATED = -0.24  # the rider's height that rests there, in the rider's figure units


def height(character: Character) -> float:
    """Height with hat and ears, in figure units."""
    return max(_HAT_HEIGHTS[character.hat], _EAR_HEIGHTS.get(character.species, 1.04)) + 0.02


def place_standing(
    rng: np.random.Generator,
    character: Character,
    *,
    x: float,
    y: float,
    scale: float,
    pose: str | None = None,
    flip: bool | None = None,
) -> Figure:
    """Place a character, moved and shrunk as little as needed to stand inside the image.

    `pose` and `flip` are drawn when missing.
    """
    scale = min(scale, (y - 0.012) / height(character))
    half = HALF_WIDTH * scale
    x = float(np.clip(x, half + 0.005, 0.995 - half))
    pose = pose or ("up" if rng.random() < 0.35 else "down")
    flip = bool(rng.random() < 0.5) if flip is None else flip
    return Figure(character, round(x, 4), round(y, 4), round(float(scale), 4), flip, pose)


def place_single(
    rng: np.random.Generator, character: Character, *, white: bool, pose: str | None = None
) -> tuple[Figure, ...]:
    """Place one character in the middle; its size and height vary more on a white canvas."""
    y = rng.uniform(0.86, 0.965) if white else rng.uniform(0.92, 0.965)
    scale = rng.uniform(0.52, 0.74) if white else rng.uniform(0.60, 0.74)
    return (place_standing(rng, character, x=rng.normal(0.5, 0.08), y=y, scale=scale, pose=pose),)


def place_pair(
    rng: np.random.Generator, first: Character, second: Character, interaction: str
) -> tuple[Figure, ...]:
    """Place two characters so that `first interaction second` is true of the image."""
    y, scale = rng.uniform(0.925, 0.965), rng.uniform(0.53, 0.61)
    side = -1 if rng.random() < 0.5 else 1  # of the first one
    if interaction in ("next to", "left of"):
        side = -1 if interaction == "left of" else side
        return tuple(
            place_standing(
                rng,
                who,
                x=0.5 + where * rng.uniform(0.235, 0.26),
                y=y + rng.uniform(-0.01, 0.01),
                scale=scale * rng.uniform(0.96, 1.04),
            )
            for who, where in ((first, side), (second, -side))
        )
    if interaction == "hugging":
        middle, apart = rng.uniform(0.46, 0.54), scale * rng.uniform(0.255, 0.275)
        return tuple(
            place_standing(
                rng,
                who,
                x=middle + where * apart,
                y=y,
                scale=scale,
                pose="reach",
                flip=where > 0,
            )
            for who, where in ((first, side), (second, -side))
        )
    if interaction == "behind":
        return _behind(rng, first, second, y=y, scale=scale, side=side)
    assert interaction == "riding", interaction
    return _riding(rng, first, second, y=y)


def _behind(
    rng: np.random.Generator,
    first: Character,
    second: Character,
    *,
    y: float,
    scale: float,
    side: int,
) -> tuple[Figure, ...]:
    # Some stand so far behind that little but their head and hat is visible.
    deep = rng.random() < 0.4
    middle = rng.uniform(0.46, 0.54)
    apart = scale * (rng.uniform(0.07, 0.11) if deep else rng.uniform(0.14, 0.22))
    back_y = y - (rng.uniform(0.14, 0.18) if deep else rng.uniform(0.07, 0.09))
    back = place_standing(rng, first, x=middle + side * apart, y=back_y, scale=scale * 0.97)
    front = place_standing(rng, second, x=middle - side * apart, y=y, scale=scale, pose="down")
    return back, front


def _riding(
    rng: np.random.Generator, first: Character, second: Character, *, y: float
) -> tuple[Figure, ...]:
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
