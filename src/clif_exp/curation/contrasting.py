"""What a G or R image shows: a concept or a stranger in its place, beside what its group shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clif_exp.concepts.pairs import KIND_CODES, derived_rng
from clif_exp.curation.library import Cutout, Library, Place, draw_place
from clif_exp.curation.settings import ContrastSettings, Kind


def contrasted(
    kind: Kind,
    index: int,
    library: Library,
    settings: ContrastSettings,
    seed: int,
    member_rng: np.random.Generator,
) -> tuple[list[Cutout], list[Place], tuple[int, np.random.Generator], int | None]:
    """A G or R image's cut-outs and places from the left, its group, and its stranger's slot."""
    code = KIND_CODES[kind]
    whole = kind == "G"
    generals = library.contexts if whole else library.context_parts
    size = max(1, min(settings.group_size, len(library.wholes if whole else library.parts)))
    group, member = divmod(index, size + settings.strangers)
    group_rng = derived_rng(seed, code, group, 1)
    general, side = _general(generals, group, seed, code)
    own = _own(kind, library, group_rng, member % size, member_rng)
    if member >= size:
        own = _stranger(
            generals, member - size, beside=general, rng=derived_rng(seed, code, group, 6)
        )
    # Shared by the group: the general concept with its flip, and both sizes and places. The
    # concept's flip is its own.
    general_place, own_place = draw_place(group_rng, settings), draw_place(group_rng, settings)
    own_place = Place(
        own_place.scale, own_place.x, own_place.y, bool(member_rng.random() < settings.flip)
    )
    slot = 1 if side == 0 else 0
    cutouts, places = (
        ([general, own], [general_place, own_place])
        if slot
        else ([own, general], [own_place, general_place])
    )
    return cutouts, places, (group, group_rng), slot if member >= size else None


def _stranger(
    generals: Sequence[Cutout], number: int, *, beside: Cutout, rng: np.random.Generator
) -> Cutout:
    """The group's number-th general concept in the concept's place; not of the name beside it."""
    others = [cutout for cutout in generals if cutout.context != beside.context] or list(generals)
    return others[int(rng.permutation(len(others))[number % len(others)])]


def _general(cutouts: Sequence[Cutout], group: int, seed: int, code: int) -> tuple[Cutout, int]:
    """Go through all general cut-outs in rounds, with sides swapped in every second round."""
    turn, position = divmod(group, len(cutouts))
    order = derived_rng(seed, code, turn // 2, 2).permutation(len(cutouts))
    sides = derived_rng(seed, code, turn // 2, 3).integers(2, size=len(cutouts))
    chosen = int(order[position])
    return cutouts[chosen], int(sides[chosen] + turn) % 2


def _own(
    kind: Kind,
    library: Library,
    group_rng: np.random.Generator,
    member: int,
    member_rng: np.random.Generator,
) -> Cutout:
    """The concept's side of a G or R pair: the group's member-th concept, in one of its images."""
    if kind == "G":
        names = list(library.wholes)
        options = library.wholes[names[int(group_rng.permutation(len(names))[member])]]
    else:
        # Same part, several owners: that is what tells V's hat from a hat. Other parts fill the
        # group up.
        keys = list(library.parts)
        wanted = keys[int(group_rng.integers(len(keys)))][1]
        shuffled = [keys[i] for i in group_rng.permutation(len(keys))]
        options = library.parts[sorted(shuffled, key=lambda key: key[1] != wanted)[member]]
    return options[int(member_rng.integers(len(options)))]
