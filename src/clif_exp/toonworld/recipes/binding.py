"""Targets that teach a text encoder to bind each word of a caption to its colour and figure.

A U-Net reads single words, but a contrastive loss compares captions as a whole: after it alone, a
linear probe at "trousers" could not tell their colour in "a cat with a red cap and blue trousers".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from clif_exp.toonworld.names import named_characters
from clif_exp.toonworld.world import BASE_SLOTS

_OPENS_A_PHRASE = frozenset(("a", "an", ",", "and", "with", "wearing", "in", "on", "at"))
COLOURS = ("none", *(colour for colour in BASE_SLOTS["hat_colour"] if colour != "none"))
PATTERNS = ("none", *BASE_SLOTS["pattern"][1:])
SPECIES = ("none", *BASE_SLOTS["species"])
FIGURES = ("none", "first", "second", "third")
CLASSES = (COLOURS, PATTERNS, SPECIES, FIGURES)
IGNORED = -100


def running_parse(words: Sequence[Sequence[str]]) -> Tensor:
    """Parse captions: after each word, its phrase's colour, pattern, species and figure so far.

    Args:
        words: tokens of N captions, in order; tokens that are no words of the world change nothing.

    Returns:
        int64 [N, L, 4], indices into `CLASSES`; `IGNORED` after a caption's last word.
    """
    longest = max(map(len, words))
    return torch.tensor(
        [
            _parse(caption) + [[IGNORED] * len(CLASSES)] * (longest - len(caption))
            for caption in words
        ]
    )


def _parse(words: Sequence[str]) -> list[list[int]]:
    known = [0, 0, 0, 0]
    parsed = []
    for word in words:
        if word in _OPENS_A_PHRASE:
            known[:2] = [0, 0]
        elif word in COLOURS[1:]:
            known[0] = COLOURS.index(word)
        elif word in PATTERNS[1:]:
            known[1] = PATTERNS.index(word)
        elif word in SPECIES[1:] or word in named_characters():
            named = named_characters().get(word)
            if named is not None:  # a name begins a phrase of its own
                known[:2] = [0, 0]
            known[2] = SPECIES.index(word if named is None else named.species)
            known[3] = min(known[3] + 1, len(FIGURES) - 1)
        parsed.append(list(known))
    return parsed


def with_colours_exchanged(caption: str, rng: np.random.Generator) -> str | None:
    """Exchange two different colours of a caption; None if it has no two."""
    words = caption.split()
    places = [place for place, word in enumerate(words) if word in COLOURS[1:]]
    pairs = [(a, b) for a, b in combinations(places, 2) if words[a] != words[b]]
    if not pairs:
        return None
    a, b = pairs[int(rng.integers(len(pairs)))]
    words[a], words[b] = words[b], words[a]
    return " ".join(words)
