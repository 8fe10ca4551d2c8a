"""Prompts for the base models: captions of scenes that nobody draws."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from clif_exp.toonworld.grammar import caption
from clif_exp.toonworld.scenes import KIND_SHARES, sample_scene

_KINDS = {"single": ("single", "single_white"), "pair": ("pair", "pair_white")}


def sample_prompts(count: int, *, seed: int, avoid: Collection[str] = ()) -> list[str]:
    """Sample captions of the world's scenes, of one figure and of two in turn; all differ.

    Args:
        count: how many; asking for more keeps those before.
        seed: of everything.
        avoid: phrases that no caption may contain.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        kinds = _KINDS["single" if len(found) % 2 == 0 else "pair"]
        shares = np.array([KIND_SHARES[kind] for kind in kinds])
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        text = caption(sample_scene(rng, kind=kind), rng)
        if not any(phrase in text for phrase in avoid):
            found.setdefault(text)
    return list(found)
