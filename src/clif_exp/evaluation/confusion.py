"""Inter-concept confusion: is everybody there, once, in their place, and wearing their own things?

The paper's appendix with its formulas is not public; these are this project's definitions. Two
answers of a reader are no
values: `ambiguous` (a blend) counts as not shown for identity and never as leakage; `not visible`
(hidden or cut off) is
left out of every count. `none` is a value: a hat that should not be there is an error, and its
absence can leak.

Every figure of the tables is a mean over images (leakage: over ordered pairs of concepts in
images). A single run reports no interval: images of one model are not independent draws of what
varies, which is the cast and the training seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from clif_exp.evaluation.assignment import (
    Truth,
    agreement,
    assign,
    left_to_right,
    match_present,
    visible_slots,
)
from clif_exp.evaluation.figures import ABSENT, AMBIGUOUS, Figure


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

    def is_confused(self, *, identity_threshold: float) -> bool:
        """False only if every named concept is there once, with enough identity and without a
        leaked attribute.
        """
        everybody_once = len(self.present) == len(self.named) and not self.duplicates
        recognisable = all(
            self.identity.get(name, 0.0) >= identity_threshold for name in self.named
        )
        return not (
            everybody_once and recognisable and not any(shown for shown, _ in self.leaks.values())
        )


def judge_image(
    figures: Sequence[Figure],
    named: Sequence[str],
    *,
    truth: Truth,
    sides: Sequence[str] | None = None,
    others: Sequence[str] | None = None,
    presence_threshold: float = 0.5,
) -> Judgement:
    """Judge one image.

    Args:
        figures: what a reader found.
        named: the concepts that the prompt names.
        truth: concept -> slot -> value.
        sides: the prompted position of each named concept, or None.
        others: concepts whose values count as leaked; the other named ones, unless a baseline is
            measured (`leak_baseline`).
        presence_threshold: agreement from which a figure can stand for a concept.
    """
    assigned = assign(figures, named, truth=truth, sides=sides)
    present, duplicates = match_present(
        figures, named, truth=truth, sides=sides, threshold=presence_threshold
    )
    leaks, bound, moved = {}, 0, 0
    for name, index in assigned.items():
        rivals = [other for other in (named if others is None else others) if other != name]
        leaks.update(
            {
                (name, rival): count_leaks(figures[index], name, rival, truth=truth)
                for rival in rivals
            }
        )
        own_bound, own_moved = count_bound(
            figures[index], name, [other for other in named if other != name], truth=truth
        )
        bound, moved = bound + own_bound, moved + own_moved
    return Judgement(
        named=tuple(named),
        figures=len(figures),
        assigned=assigned,
        present=present,
        identity={
            name: agreement(figures[i], name, truth)
            for name, i in assigned.items()
            if _readable(figures[i], name, truth)
        },
        leaks=leaks,
        bound=bound,
        moved=moved,
        duplicates=duplicates,
        sides=count_sides(figures, named, sides, present),
    )


def _readable(figure: Figure, name: str, truth: Truth) -> bool:
    return figure.likeness is not None or bool(visible_slots(figure, truth[name]))


def count_leaks(figure: Figure, name: str, other: str, *, truth: Truth) -> tuple[float, int]:
    """Count, over the visible slots on which two concepts differ, those where the figure shows the
    other's value.
    """
    if figure.likeness is not None:
        # A reader that compares already gives the likeness beyond the references' own; it is one
        # "slot" of graded size.
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
    """Count attributes that stand where they belong, and attributes moved there from another part
    or another figure.

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
    """Count neighbours in the prompted order that are both there, and those of them that stand in
    that order.
    """
    if sides is None:
        return (0, 0)
    ordered = left_to_right(named, sides)
    pairs = [
        (present[a], present[b])
        for a, b in itertools.pairwise(ordered)
        if a in present and b in present
    ]
    return sum(figures[a].x < figures[b].x for a, b in pairs), len(pairs)


def leak_baseline(singles: Sequence[Judgement]) -> dict[tuple[str, str], float]:
    """Measure how often a concept *alone* shows another's value where the two differ: an error, but
    no leakage.

    Args:
        singles: judgements of single-concept images, made with `others` = all concepts.

    Returns:
        (concept, other) -> mean rate in [0, 1] over the concept's images.
    """
    rates: dict[tuple[str, str], list[float]] = {}
    for judgement in singles:
        for pair, (shown, visible) in judgement.leaks.items():
            if visible:
                rates.setdefault(pair, []).append(shown / visible)
    return {pair: fmean(values) for pair, values in rates.items()}


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def identity(judgements: Sequence[Judgement]) -> float | None:
    """Share of a concept's visible attributes that its figure shows. Range [0, 1], higher is
    better.

    A mean over the concepts that have a figure; a concept without one is counted by attendance.
    """
    return _mean([value for judgement in judgements for value in judgement.identity.values()])


def leakage(
    judgements: Sequence[Judgement], *, baseline: Mapping[tuple[str, str], float]
) -> float | None:
    """Share of the visible attributes on which named concepts differ that show the other's value,
    minus the same error in single-concept images. Range [-1, 1], lower is better, 0 means that
    company adds no error.

    Pairs without a single-concept image take the mean baseline; without any, the share stands
    uncorrected.
    """
    typical = fmean(baseline.values()) if baseline else 0.0
    return _mean(
        [
            shown / visible - baseline.get(pair, typical)
            for judgement in judgements
            for pair, (shown, visible) in judgement.leaks.items()
            if visible
        ]
    )


def attribute_binding(judgements: Sequence[Judgement]) -> float | None:
    """Share of the visible attributes shown by an image's figures that stand on the right part of
    the right figure, not moved from another part of the same concept or from another named concept.
    Range [0, 1], higher is better.
    """
    return _mean(
        [
            judgement.bound / (judgement.bound + judgement.moved)
            for judgement in judgements
            if judgement.bound + judgement.moved
        ]
    )


def attendance(judgements: Sequence[Judgement]) -> float | None:
    """Share of the named concepts that are there, wherever they stand; occluded is not missing.
    Range [0, 1], higher is better.
    """
    return _mean(
        [
            len(judgement.present) / len(judgement.named)
            for judgement in judgements
            if judgement.named
        ]
    )


def duplicates(judgements: Sequence[Judgement]) -> float | None:
    """Figures per image that stand for a named concept beyond the one asked for.

    Range [0, inf), lower is better.
    """
    return _mean([float(judgement.duplicates) for judgement in judgements if judgement.named])


def side(judgements: Sequence[Judgement]) -> float | None:
    """Share of the prompted positions kept, where the concepts are there.

    Range [0, 1], higher is better; chance is 0.5.
    """
    return _mean(
        [judgement.sides[0] / judgement.sides[1] for judgement in judgements if judgement.sides[1]]
    )


def confusion(judgements: Sequence[Judgement], *, identity_threshold: float) -> float | None:
    """1 - the share of images with every named concept there once, identity of at least
    `identity_threshold` each and no leaked attribute. Range [0, 1], lower is better.
    """
    return _mean(
        [
            float(judgement.is_confused(identity_threshold=identity_threshold))
            for judgement in judgements
            if judgement.named
        ]
    )


def summarise(
    judgements: Sequence[Judgement],
    *,
    multi: bool,
    baseline: Mapping[tuple[str, str], float],
    identity_threshold: float,
) -> dict[str, float | None]:
    """Every metric of a set of images by its name; None where nothing could be measured."""
    metrics = {
        "identity": identity(judgements),
        "attribute_binding": attribute_binding(judgements),
        "attendance": attendance(judgements),
        "duplicates": duplicates(judgements),
    }
    if multi:
        metrics |= {
            "leakage": leakage(judgements, baseline=baseline),
            "leakage_uncorrected": leakage(judgements, baseline={}),
            "side": side(judgements),
            "confusion": confusion(judgements, identity_threshold=identity_threshold),
        }
    return metrics
