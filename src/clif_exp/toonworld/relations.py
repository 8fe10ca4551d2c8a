"""Rules on boxes that decide whether two figures stand as a prompt asks, and prompts to test it."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from clif_exp.toonworld.architectures import RESOLUTION
from clif_exp.toonworld.characters import sample_character
from clif_exp.toonworld.drawing.render import render
from clif_exp.toonworld.grammar import PLACE_PHRASES, phrase
from clif_exp.toonworld.scenes import sample_scene
from clif_exp.toonworld.world import CONTEXTS, INTERACTIONS, Character

Box = tuple[float, float, float, float]


def holds(relation: str, first: Box, second: Box) -> bool:
    """Return whether `first relation second` is true of two boxes.

    Args:
        relation: one of `world.INTERACTIONS`.
        first: left, top, right, bottom in pixels of a 128 px image.
        second: likewise.

    Raises:
        ValueError: the relation is unknown.
    """
    side = (first[0] + first[2] - second[0] - second[2]) / 2 / RESOLUTION
    apart = abs(side)
    higher = (second[3] - first[3]) / RESOLUTION  # of the first one's feet above the second one's
    narrow = min(first[2] - first[0], second[2] - second[0])
    shared = (min(first[2], second[2]) - max(first[0], second[0])) / max(narrow, 1e-6)
    if relation == "left of":
        return side < -0.3
    if relation == "next to":
        return apart > 0.38 and abs(higher) < 0.06
    if relation == "hugging":
        return 0.16 < apart < 0.38 and abs(higher) < 0.06 and shared > 0.2
    # A figure that carries another is on all fours, so it is wider than tall.
    mounted = second[2] - second[0] > 1.25 * (first[2] - first[0])
    if relation == "behind":
        return higher > 0.04 and shared > 0.15 and not mounted
    if relation == "riding":
        return higher > 0.1 and shared > 0.6 and mounted
    raise ValueError(f"relation={relation!r} is unknown. Choose one of {', '.join(INTERACTIONS)}.")


def prompts_of(relation: str, count: int, *, seed: int) -> list[tuple[str, str, str]]:
    """Draw prompts of two different species: text, first species, second species."""
    prompts = []
    for index in range(count):
        rng = np.random.default_rng([seed, 6, index])
        first, second = sample_character(rng), sample_character(rng)
        while second.species == first.species:
            second = sample_character(rng)
        names = [_name(who, rng) for who in (first, second)]
        pair = (
            f"{names[0]} on the left and {names[1]} on the right"
            if relation == "left of"
            else f"{names[0]} {relation} {names[1]}"
        )
        place = PLACE_PHRASES[CONTEXTS[index % (len(CONTEXTS) - 1)]]
        prompts.append((f"a photo of {pair} {place}", first.species, second.species))
    return prompts


def _name(who: Character, rng: np.random.Generator) -> str:
    """A phrase that names the species: a correct drawing of "an animal" could count as a miss."""
    while who.species not in (name := phrase(who, rng, rate=0.35)).split():
        pass
    return name


def rules_on_truth(*, count: int, seed: int) -> float:
    """Share of rendered pairs that `holds` judges correctly, the ceiling of what it measures."""
    right: dict[str, list[bool]] = defaultdict(list)
    for index in range(count):
        scene = sample_scene(np.random.default_rng([seed, 7, index]), kind="pair")
        first, second = render(scene, size=RESOLUTION).boxes[:2]
        if first is not None and second is not None and scene.interaction is not None:
            right[scene.interaction].append(holds(scene.interaction, first, second))
    return float(np.mean([np.mean(values) for values in right.values()]))
