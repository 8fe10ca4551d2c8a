"""Colours and how they are derived from each other."""

from __future__ import annotations

from clif_exp.toonworld.world import COLOURS

RGB = tuple[int, int, int]
INK: RGB = (38, 30, 36)


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """`first` with `share` of it replaced by `second`."""
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def darker(colour: RGB, share: float = 0.3) -> RGB:
    """`colour` with `share` of it replaced by a near black."""
    return mix(colour, (20, 14, 24), share)


def lighter(colour: RGB, share: float = 0.5) -> RGB:
    """`colour` with `share` of it replaced by a warm white."""
    return mix(colour, (255, 252, 246), share)


def luminance(colour: RGB) -> float:
    """Brightness as seen, in [0, 255]."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def pattern_colour(colour: RGB) -> RGB:
    """The second colour of a patterned cloth, which shows on the first.

    No two colours of cloth look the same with their patterns.
    """
    if luminance(colour) < 190:
        return COLOURS["white"]
    return (140, 200, 240) if colour[2] > 160 else (192, 116, 32)
