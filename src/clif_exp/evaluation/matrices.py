"""Which concept was taken for which: the confusion matrix, and shares per concept and pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from clif_exp.evaluation.assignment import Truth, agreement
from clif_exp.evaluation.confusion import Judgement, leakage
from clif_exp.evaluation.figures import Figure
from clif_exp.evaluation.metrics import IMAGE_COUNT

Judged = tuple[Sequence[Figure], Judgement]


def confusion_matrix(
    judged: Sequence[Judged], *, names: Sequence[str], truth: Truth
) -> dict[str, Any]:
    """Compare every figure meant to be a concept with all concepts.

    Args:
        judged: the figures of each image with its judgement.
        names: all concepts, in the order of rows and columns.
        truth: concept -> slot -> value.

    Returns:
        `names`; `nearest` [N][N + 1]: row i is the share of the figures asked to be concept i that
        agree most with each concept (ties are split), the last column the share missing; rows sum
        to 1; `agreement` [N][N]: the mean agreement of those figures with each concept; `count`
        [N]: how often i was asked for. Rows that were never asked for hold None.
    """
    nearest: dict[str, list[list[float]]] = {name: [] for name in names}
    agreements: dict[str, list[list[float]]] = {name: [] for name in names}
    for figures, judgement in judged:
        for name in judgement.named:
            if name not in judgement.assigned:
                nearest[name].append([0.0] * len(names) + [1.0])
                continue
            row = [agreement(figures[judgement.assigned[name]], other, truth) for other in names]
            tied = [value >= max(row) - 1e-9 for value in row]
            nearest[name].append([flag / sum(tied) for flag in tied] + [0.0])
            agreements[name].append(row)
    return {
        "names": list(names),
        "nearest": [_column_means(nearest[name]) for name in names],
        "agreement": [_column_means(agreements[name]) for name in names],
        "count": [len(nearest[name]) for name in names],
    }


def _column_means(rows: Sequence[Sequence[float]]) -> list[float] | None:
    return [fmean(column) for column in zip(*rows, strict=True)] if rows else None


def attendance_per_concept(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Return concept -> share of the images naming it that show it, in [0, 1] (paper, Fig. 9)."""
    there: dict[str, list[float]] = {}
    for judgement in judgements:
        for name in judgement.named:
            there.setdefault(name, []).append(float(name in judgement.present))
    return {name: fmean(values) for name, values in sorted(there.items())}


def confusion_per_concept(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Return concept -> share of the images naming it where it is not there once, intact: [0, 1].

    Intact as in the metric of that name: recognisable and without a leaked attribute.
    """
    confused: dict[str, list[float]] = {}
    for judgement in judgements:
        for name in judgement.named:
            confused.setdefault(name, []).append(float(name not in judgement.intact))
    return {name: fmean(values) for name, values in sorted(confused.items())}


def confusion_per_pair(judgements: Sequence[Judgement]) -> dict[str, Mapping[str, float]]:
    """Return "a|b" -> confusion, leaked share and number of images of that pair (paper, Fig. 2)."""
    pairs: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        if len(judgement.named) == 2:
            pairs.setdefault("|".join(sorted(judgement.named)), []).append(judgement)
    points: dict[str, Mapping[str, float]] = {}
    for pair, members in sorted(pairs.items()):
        shares = [share for judgement in members for share in leakage(judgement).values()]
        points[pair] = {
            "confusion": fmean(float(judgement.confused) for judgement in members),
            "leaked": fmean(shares) if shares else 0.0,
            IMAGE_COUNT: float(len(members)),
        }
    return points
