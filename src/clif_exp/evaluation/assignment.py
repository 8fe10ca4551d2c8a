"""Which figure is meant to be which concept, and which concepts are in the image at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from clif_exp.evaluation.figures import NOT_VISIBLE, Figure

Truth = Mapping[str, Mapping[str, str]]
_ORDER = {"left": 0.0, "middle": 0.5, "center": 0.5, "centre": 0.5, "right": 1.0}


def visible_slots(figure: Figure, truth: Mapping[str, str]) -> list[str]:
    """The concept's slots that can be seen on the figure: those not read as `not visible`."""
    return [slot for slot in truth if figure.attributes.get(slot, NOT_VISIBLE) != NOT_VISIBLE]


def agreement(figure: Figure, name: str, truth: Truth) -> float:
    """Share of a concept's visible attributes that the figure shows, in [0, 1]; 0 without any.

    `ambiguous` counts as not shown. A reader that compares gives its likeness instead.
    """
    if figure.likeness is not None:
        return figure.likeness.get(name, 0.0)
    slots = visible_slots(figure, truth[name])
    return (
        sum(figure.attributes[slot] == truth[name][slot] for slot in slots) / len(slots)
        if slots
        else 0.0
    )


def side_rank(side: str) -> float:
    """Where a prompted side lies: left before middle before right, or a place's number in a row."""
    return _ORDER[side] if side in _ORDER else float(side)


def left_to_right(named: Sequence[str], sides: Sequence[str]) -> list[str]:
    """The named concepts in the order in which the prompt places them."""
    return [
        name
        for _, name in sorted(
            zip(map(side_rank, sides), named, strict=True), key=lambda pair: pair[0]
        )
    ]


def assign(
    figures: Sequence[Figure], named: Sequence[str], *, truth: Truth, sides: Sequence[str] | None
) -> dict[str, int]:
    """Assign figures to the named concepts, each to at most one.

    Prompted sides fix the assignment: concepts and figures are matched left to right. With more
    figures than concepts the best-agreeing figures in that order are taken; with fewer, each figure
    goes to the concept whose place it is nearest to. Without sides, Hungarian: the assignment with
    the largest sum of agreements.

    Returns:
        Concept -> index of its figure; a concept without a figure is absent.
    """
    if not figures or not named:
        return {}
    if sides is None:
        weights = [[agreement(figure, name, truth) for figure in figures] for name in named]
        return _best_assignment(weights, named, figures)
    ordered = left_to_right(named, sides)
    spots = sorted(range(len(figures)), key=lambda index: figures[index].x)
    if len(spots) >= len(ordered):
        # Hundreds of detections would make the combinations explode; a dozen figures are plenty.
        spots = sorted(
            sorted(spots, key=lambda index: -figures[index].score)[:12],
            key=lambda index: figures[index].x,
        )
        candidates = itertools.combinations(spots, len(ordered))
        best = max(
            candidates,
            key=lambda chosen: sum(
                agreement(figures[i], n, truth) for n, i in zip(ordered, chosen, strict=True)
            ),
        )
        return dict(zip(ordered, best, strict=True))
    places = {name: (index + 0.5) / len(ordered) for index, name in enumerate(ordered)}

    def fit(chosen: Iterable[str]) -> float:
        pairs = list(zip(chosen, spots, strict=True))
        distance = sum(abs(figures[index].x - places[name]) for name, index in pairs)
        # A figure in the exact middle belongs to neither side: there, agreement decides.
        return 0.1 * sum(agreement(figures[index], name, truth) for name, index in pairs) - distance

    return dict(zip(max(itertools.combinations(ordered, len(spots)), key=fit), spots, strict=True))


def match_present(
    figures: Sequence[Figure],
    named: Sequence[str],
    *,
    truth: Truth,
    sides: Sequence[str] | None,
    threshold: float,
) -> tuple[dict[str, int], list[tuple[str, ...]]]:
    """Find which named concepts are in the image, wherever they stand.

    A figure stands for the named concept (or, where hidden parts leave it open, concepts) that it
    agrees with most, if it agrees with at least `threshold` of what is visible. Each figure can
    stand for one concept only, so two copies of one concept, or one blend of two, leave the other
    missing. Occluded is not missing: hidden parts are left out.

    Returns:
        Concept -> index of the figure that stands for it; and, for every further figure that stands
        for a named concept (a duplicate), the concepts that it could stand for.
    """
    if not figures or not named:
        return {}, []
    scores = [[agreement(figure, name, truth) for figure in figures] for name in named]
    best = [max(row[index] for row in scores) for index in range(len(figures))]
    eligible = [
        [score >= threshold and score >= best[i] - 1e-9 for i, score in enumerate(row)]
        for row in scores
    ]
    # More concepts in the image beat better agreement; where hidden parts leave it open, the
    # prompted (or named) order decides.
    order = left_to_right(named, sides) if sides else list(named)
    weights = [
        [1 + 1e-2 * score if ok else -1.0 for score, ok in zip(score_row, ok_row, strict=True)]
        for score_row, ok_row in zip(scores, eligible, strict=True)
    ]
    found = _best_assignment(weights, named, figures, order=order)
    present = {
        name: index for name, index in found.items() if eligible[list(named).index(name)][index]
    }
    surplus = [
        tuple(name for name, row in zip(named, eligible, strict=True) if row[index])
        for index in range(len(figures))
        if index not in present.values()
    ]
    return present, [names for names in surplus if names]


def _best_assignment(
    weights: Sequence[Sequence[float]],
    named: Sequence[str],
    figures: Sequence[Figure],
    *,
    order: Sequence[str] | None = None,
) -> dict[str, int]:
    """Maximise the sum of weights; ties go to the order of the names from left to right."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    order = list(order or named)
    ranks = np.array([(order.index(name) + 0.5) / len(order) for name in named])
    distance = np.abs(ranks[:, None] - np.array([figure.x for figure in figures])[None, :])
    rows, columns = linear_sum_assignment(np.asarray(weights) - 1e-6 * distance, maximize=True)
    return {named[row]: int(column) for row, column in zip(rows, columns, strict=True)}
