"""Which pairs of concepts M-Aug may show."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

KIND_CODES = {"G": 1, "R": 2, "M": 3}


SEEN_SHARE = 0.7


def seen_pairs(
    names: Sequence[str], *, seed: int = 0, share: float = SEEN_SHARE
) -> set[frozenset[str]]:
    """Choose the pairs of concepts that M-Aug may show; evaluation reports seen and unseen pairs
    apart.

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
    # First whatever brings in somebody new, so that nobody is left out; then the rest, in drawn
    # order.
    covered: set[str] = set()
    chosen = []
    for pair in shuffled:
        if not covered.issuperset(pair):
            chosen.append(pair)
            covered.update(pair)
    chosen += [pair for pair in shuffled if pair not in chosen]
    return {frozenset(pair) for pair in chosen[: max(1, round(share * len(pairs)))]}


def derived_rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(list(key)))
