"""Which pairs of concepts M-Aug may show, and random streams that derive from a key."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

KIND_CODES = {"G": 1, "R": 2, "M": 3}  # kind of augmentation -> its number in seeds
SEEN_SHARE = 0.7  # of all pairs of concepts


def seen_pairs(
    names: Sequence[str], *, seed: int = 0, share: float = SEEN_SHARE
) -> set[frozenset[str]]:
    """Choose the pairs of concepts that M-Aug may show; evaluation reports the others apart.

    Args:
        names: the concepts; their order does not matter.
        seed: fixed by the method, not by a run.
        share: how many of all pairs are seen.

    Returns:
        `round(share * pairs)` pairs, at least one; every concept is in one of them.
    """
    ordered = sorted(names)
    pairs = list(itertools.combinations(ordered, 2))
    if not pairs:
        return set()
    rng = derived_rng(seed, 0, len(ordered))
    shuffled = [pairs[i] for i in rng.permutation(len(pairs))]
    # First the pairs that bring in a new concept, so that none is left out; then the rest in the
    # order drawn.
    covered: set[str] = set()
    chosen = []
    for pair in shuffled:
        if not covered.issuperset(pair):
            chosen.append(pair)
            covered.update(pair)
    chosen += [pair for pair in shuffled if pair not in chosen]
    return {frozenset(pair) for pair in chosen[: max(1, round(share * len(pairs)))]}


def derived_rng(*key: int) -> np.random.Generator:
    """Return the generator of one purpose, independent of those of other keys."""
    return np.random.default_rng(np.random.SeedSequence(list(key)))
