"""Inter-concept confusion: is every concept there, once, in its place and with its own attributes?

The paper's appendix with its formulas is not public; these are this project's definitions. Two
answers of a reader are not values: `ambiguous` (a blend) counts as not shown for identity and never
as leakage; `not visible` (hidden or cut off) is left out of every count. `none` is a value: a hat
that should not be there is an error, and its absence can leak.

The functions at the end measure one image each; a run's metric is the mean of their values. A
single run reports no interval: images of one model are not independent draws of what varies, which
is the cast and the training seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clif_exp.evaluation.assignment import (
    Truth,
    agreement,
    assign,
    left_to_right,
    match_present,
    visible_slots,
)
from clif_exp.evaluation.figures import ABSENT, AMBIGUOUS, Figure

Values = Mapping[tuple[str, ...], float]
"""What a metric measures in one image, by what it belongs to: the image (), a concept, a pair."""


@dataclass(frozen=True)
class Judgement:
    """One image, judged.

    Attributes:
        named: the concepts that the prompt names.
        figures: how many figures were found.
        assigned: concept -> index of the figure meant to be it (see `assignment.assign`).
        present: concept -> index of the figure that stands for it wherever it is (see
            `assignment.match_present`).
        identity: concept -> share of its visible attributes that its figure shows; concepts with a
            figure only.
        leaks: (concept, other) -> (slots that show the other's value, visible slots on which the
            two differ).
        bound, moved: visible attributes on the right part of the right figure, and moved from
            elsewhere.
        duplicates: figures that stand for a named concept beyond the one asked for.
        sides: (positions kept, positions asked) among neighbours in the prompted order that are
            both there.
        intact: the named concepts that are there exactly once, with enough identity and without a
            leaked attribute.
        confused: whether a named concept is not intact.
    """

    named: tuple[str, ...]
    figures: int
    assigned: Mapping[str, int] = field(default_factory=dict)
    present: Mapping[str, int] = field(default_factory=dict)
    identity: Mapping[str, float] = field(default_factory=dict)
    leaks: Mapping[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    bound: int = 0
    moved: int = 0
    duplicates: int = 0
    sides: tuple[int, int] = (0, 0)
    intact: tuple[str, ...] = ()
    confused: bool = True


def judge_image(
    figures: Sequence[Figure],
    named: Sequence[str],
    *,
    truth: Truth,
    sides: Sequence[str] | None = None,
    others: Sequence[str] | None = None,
    presence_threshold: float,
    identity_threshold: float,
) -> Judgement:
    """Judge one image.

    Args:
        figures: what a reader found.
        named: the concepts that the prompt names.
        truth: concept -> slot -> value.
        sides: the prompted position of each named concept, or None.
        others: concepts whose values count as leaked; None: the other named ones. Single-concept
            images are judged against all concepts, as the baseline of leakage.
        presence_threshold: agreement from which a figure can stand for a concept, in [0, 1].
        identity_threshold: identity that an image without confusion needs of every named concept,
            in [0, 1].
    """
    assigned = assign(figures, named, truth=truth, sides=sides)
    present, surplus = match_present(
        figures, named, truth=truth, sides=sides, threshold=presence_threshold
    )
    leaks: dict[tuple[str, str], tuple[float, int]] = {}
    bound = moved = 0
    for name, index in assigned.items():
        for rival in named if others is None else others:
            if rival != name:
                leaks[name, rival] = count_leaks(figures[index], name, rival, truth=truth)
        own_bound, own_moved = count_bound(
            figures[index], name, [other for other in named if other != name], truth=truth
        )
        bound, moved = bound + own_bound, moved + own_moved
    shown = {
        name: agreement(figures[i], name, truth)
        for name, i in assigned.items()
        if _readable(figures[i], name, truth)
    }
    duplicated = {name for names in surplus for name in names}
    leaked = {name for (name, _), (count, _) in leaks.items() if count}
    intact = tuple(
        name
        for name in named
        if name in present
        and shown.get(name, 0.0) >= identity_threshold
        and name not in duplicated | leaked
    )
    return Judgement(
        named=tuple(named),
        figures=len(figures),
        assigned=assigned,
        present=present,
        identity=shown,
        leaks=leaks,
        bound=bound,
        moved=moved,
        duplicates=len(surplus),
        sides=count_sides(figures, named, sides, present),
        intact=intact,
        confused=len(intact) < len(named),
    )


def _readable(figure: Figure, name: str, truth: Truth) -> bool:
    return figure.likeness is not None or bool(visible_slots(figure, truth[name]))


def count_leaks(figure: Figure, name: str, other: str, *, truth: Truth) -> tuple[float, int]:
    """Count the slots that show the other concept's value, and the visible slots that differ."""
    if figure.likeness is not None:
        # A reader that compares gives the likeness beyond the references' own: one graded "slot".
        return figure.likeness.get(f"{name}>{other}", 0.0), 1
    differing = [
        slot
        for slot in visible_slots(figure, truth[name])
        if slot in truth[other] and truth[name][slot] != truth[other][slot]
    ]
    return sum(figure.attributes[slot] == truth[other][slot] for slot in differing), len(differing)


def count_bound(
    figure: Figure, name: str, others: Sequence[str], *, truth: Truth
) -> tuple[int, int]:
    """Count attributes in the right place, and attributes moved there from another part or figure.

    An attribute is moved if its slot shows, instead of its own value, that of another slot of the
    same concept with the same kind of values (the hat has the jacket's colour), or another named
    concept's value of the same slot. A wrong value from nowhere is an error of identity, not of
    binding, and is in neither count. Absence (`none`) is never bound or moved.
    """
    own = truth[name]
    bound = moved = 0
    for slot in visible_slots(figure, own) if figure.likeness is None else []:
        shown = figure.attributes[slot]
        if shown in (ABSENT, AMBIGUOUS):
            continue
        from_own = any(
            own[part] == shown for part in own if part != slot and kind_of(part) == kind_of(slot)
        )
        from_other = any(truth[other].get(slot) == shown for other in others)
        bound += shown == own[slot]
        moved += shown != own[slot] and (from_own or from_other)
    return bound, moved


def kind_of(slot: str) -> str:
    """Slots of one kind can exchange values: coat, hat, top and bottom colours are all colours."""
    return "colour" if slot.endswith("colour") or slot == "coat" else slot


def count_sides(
    figures: Sequence[Figure],
    named: Sequence[str],
    sides: Sequence[str] | None,
    present: Mapping[str, int],
) -> tuple[int, int]:
    """Count the neighbours that stand in the prompted order, and those that are both there."""
    if sides is None:
        return (0, 0)
    ordered = left_to_right(named, sides)
    pairs = [
        (present[a], present[b])
        for a, b in itertools.pairwise(ordered)
        if a in present and b in present
    ]
    return sum(figures[a].x < figures[b].x for a, b in pairs), len(pairs)


def identity(judgement: Judgement) -> Values:
    """Share of the visible attributes that each concept's figure shows, in [0, 1], by concept.

    Concepts without a figure are left out: attendance counts them.
    """
    return {(name,): share for name, share in judgement.identity.items()}


def leakage(judgement: Judgement) -> Values:
    """Share of the visible differing attributes that show the other's value, by ordered pair.

    In [0, 1] for one image. The metric subtracts the same error in single-concept images, which are
    judged against all concepts.
    """
    return {pair: shown / visible for pair, (shown, visible) in judgement.leaks.items() if visible}


def attribute_binding(judgement: Judgement) -> Values:
    """Share of an image's bound and moved attributes that are bound, in [0, 1].

    A wrong value that belongs nowhere else counts in neither. If it lowered binding too, binding
    would repeat identity and could not tell confusion of parts, which R-Aug is for, from a badly
    drawn part.
    """
    counted = judgement.bound + judgement.moved
    return {(): judgement.bound / counted} if counted else {}


def attendance(judgement: Judgement) -> Values:
    """Share of the named concepts that are in the image, in [0, 1]; occluded is not missing."""
    named = len(judgement.named)
    return {(): len(judgement.present) / named} if named else {}


def duplicates(judgement: Judgement) -> Values:
    """Figures of an image that stand for a named concept beyond the one asked for, 0 and up.

    Counted per image, not per named concept: a blend can stand for two concepts equally well, so
    that a surplus figure belongs to the image rather than to one of them.
    """
    return {(): float(judgement.duplicates)} if judgement.named else {}


def side(judgement: Judgement) -> Values:
    """Share of neighbours in the prompted order that stand in that order, in [0, 1]; chance is 0.5.

    Only neighbours that are both there count (attendance covers the others). Order is what counts,
    not halves of the image: two concepts left of the centre can still be left and right.
    """
    kept, asked = judgement.sides
    return {(): kept / asked} if asked else {}


def confusion(judgement: Judgement) -> Values:
    """1 unless every named concept is there once, recognisable and without a leaked attribute."""
    return {(): float(judgement.confused)} if judgement.named else {}


def intact(judgement: Judgement) -> Values:
    """Share of the named concepts that are there once, recognisable and without a leak, in [0, 1].

    `confusion` in grades: 1 where that is 0. A surplus figure counts against every concept that it
    could stand for.
    """
    named = len(judgement.named)
    return {(): len(judgement.intact) / named} if named else {}
