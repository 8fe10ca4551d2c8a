"""Means with intervals, paired differences with tests, and what a design could have found.

The values are of independent units (`grouping.over_casts`), never of images: images of one model
are no independent samples. SciPy computes what it has.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Unit = TypeVar("Unit")

CONFIDENCE = 0.95
LEVEL = 0.05
POWER = 0.8
FEW = 6  # values below which a bootstrap has too few to draw from
_RESAMPLES = 9_999
_RESAMPLES_OF_UNITS = 1_999  # each computes a statistic in Python
_DECIMALS = 9  # of a difference: sums in another order make equal ones differ in the last digits
_MOST_EXACT = 50  # pairs up to which the distribution of the signed ranks is computed


@dataclass(frozen=True)
class Mean:
    """A metric of a group.

    Attributes:
        runs: how many measured it.
        units: how many independent values the mean is over.
        mean: over the units; None: no run measured it.
        interval: CONFIDENCE interval of the mean; None with fewer than two units.
    """

    runs: int
    units: int
    mean: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Difference:
    """A metric of a group minus the baseline's, over pairs of units.

    Attributes:
        pairs: how many independent ones.
        mean: of the differences; None without a pair.
        interval: CONFIDENCE interval of the mean; None with fewer than two pairs.
        p: two-sided, Wilcoxon's signed-rank test; None with fewer than two pairs.
        holm: p, corrected for the other groups' comparisons; None where p is.
        effect: matched-pairs rank biserial correlation in [-1, 1]: 1, all differences are
            positive; None with fewer than two pairs.
        detectable: the smallest absolute mean difference that such pairs would have shown with
            probability POWER; None: no difference, however large, or the pairs have no spread.
    """

    pairs: int
    mean: float | None
    interval: tuple[float, float] | None
    p: float | None
    holm: float | None
    effect: float | None
    detectable: float | None


def mean_of(values: Sequence[float], *, runs: int | None = None) -> Mean:
    """Return the mean of a metric with its interval.

    Args:
        values: of independent units.
        runs: that the values come from; None: one each.
    """
    mean = math.fsum(values) / len(values) if values else None
    count = len(values) if runs is None else runs
    return Mean(count, len(values), mean, bootstrap_interval(values))


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the bias-corrected and accelerated bootstrap interval of the mean (Efron, 1987).

    The same values give the same interval, in whatever order. None with fewer than two values.
    """
    import numpy as np
    from scipy import stats

    if len(values) < 2:
        return None
    known = np.sort([round(value, _DECIMALS) for value in values])
    if known[0] == known[-1]:  # no resample differs
        return float(known[0]), float(known[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (known,),
            np.mean,
            n_resamples=_RESAMPLES,
            confidence_level=CONFIDENCE,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return float(found.low), float(found.high)


def interval_over_units(
    units: Sequence[Unit], statistic: Callable[[Sequence[Unit]], float]
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a statistic of all units together.

    Units are drawn whole, so what belongs to one cast stays together; draws without a value (NaN)
    are left out. None with fewer than two units.

    Args:
        units: what is drawn with replacement, such as the pairs of each cast.
        statistic: of some units.
    """
    import numpy as np
    from scipy import stats

    if len(units) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            (np.arange(len(units)),),
            lambda places: statistic([units[place] for place in places]),
            n_resamples=_RESAMPLES_OF_UNITS,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(0),
        ).bootstrap_distribution
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def compare_paired(differences: Sequence[Sequence[float]]) -> list[Difference]:
    """Compare several groups with one baseline, by one metric.

    Args:
        differences: of each group, its values minus the baseline's in the same unit.

    Returns:
        A comparison for each group; p-values are corrected over all of them (Holm, 1979).
    """
    tests = [signed_rank_p(of_group) for of_group in differences]
    corrected = holm(tests)
    count = sum(p is not None for p in tests)
    found = []
    for of_group, p, adjusted in zip(differences, tests, corrected, strict=True):
        mean = mean_of(of_group)
        found.append(
            Difference(
                pairs=len(of_group),
                mean=mean.mean,
                interval=mean.interval,
                p=p,
                holm=adjusted,
                effect=rank_biserial(of_group),
                detectable=smallest_detectable(of_group, comparisons=max(1, count)),
            )
        )
    return found


def signed_rank_p(differences: Sequence[float]) -> float | None:
    """Return the two-sided p of Wilcoxon's signed-rank test.

    Exact up to 50 pairs. Pairs that do not differ are left out, as Wilcoxon did; 1 if none differs.
    None with fewer than two pairs.
    """
    from scipy import stats

    if len(differences) < 2:
        return None
    known = _differing(differences)
    if not known:
        return 1.0
    ranks = stats.rankdata([abs(value) for value in known])
    if len(set(ranks)) == len(ranks) or len(ranks) > _MOST_EXACT:
        return float(stats.wilcoxon(known, method="auto").pvalue)
    return _exact_p_with_ties(ranks, positive=[value > 0 for value in known])


def _exact_p_with_ties(ranks: Sequence[float], *, positive: Sequence[bool]) -> float:
    """Return the share of all choices of signs whose rank sum is as far from the middle.

    SciPy's own way with ties (PermutationMethod) tries all 2^n. Here sums are counted, a rank at a
    time, in units of a half: what tied ranks are multiples of.
    """
    import numpy as np

    halves = [round(2 * rank) for rank in ranks]
    total = sum(halves)
    ways = np.zeros(total + 1)
    ways[0] = 1
    for of_rank in halves:
        ways[of_rank:] += ways[: total + 1 - of_rank].copy()
    observed = sum(of_rank for of_rank, up in zip(halves, positive, strict=True) if up)
    as_far = np.abs(2 * np.arange(total + 1) - total) >= abs(2 * observed - total)
    return float(ways[as_far].sum() / 2.0 ** len(halves))


def _differing(differences: Sequence[float]) -> list[float]:
    """Return those that are not 0, rounded so that equal ones are ties."""
    return [value for value in (round(value, _DECIMALS) for value in differences) if value]


def smallest_p(pairs: int) -> float:
    """Return the smallest p that the signed-rank test can give: all differences of one sign."""
    return min(1.0, 2.0 ** (1 - pairs))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for their number, step by step (Holm, 1979); None stays and is not counted.

    Returns:
        The adjusted p-values: those below a level are significant at it, all errors together.
    """
    known = sorted((p, index) for index, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[index] = largest
    return adjusted


def rank_biserial(differences: Sequence[float]) -> float | None:
    """Return the matched-pairs rank biserial correlation (Kerby, 2014), in [-1, 1].

    The sum of the ranks of positive differences minus that of negative ones, over the sum of all;
    0 if no pair differs, None with fewer than two pairs.
    """
    from scipy import stats

    if len(differences) < 2:
        return None
    known = _differing(differences)
    if not known:
        return 0.0
    ranks = stats.rankdata([abs(value) for value in known])
    signed = sum(rank if value > 0 else -rank for rank, value in zip(ranks, known, strict=True))
    return float(signed / ranks.sum())


def smallest_detectable(differences: Sequence[float], *, comparisons: int = 1) -> float | None:
    """Return the mean difference that as many pairs with this spread show with probability POWER.

    By the power of a two-sided paired t-test at LEVEL / comparisons: the level that Holm's
    correction asks of the smallest p. Wilcoxon's test needs about a twentieth more pairs where
    differences are normal, fewer where they have heavy tails.

    Args:
        differences: of the pairs; their standard deviation is what the design is judged by.
        comparisons: how many are corrected for.

    Returns:
        An absolute difference in the metric's unit. None if there are fewer than two pairs, they
        do not vary, or so few that the signed-rank test cannot reach the level.
    """
    import numpy as np

    pairs, level = len(differences), LEVEL / comparisons
    if pairs < 2 or smallest_p(pairs) > level:
        return None
    spread = round(float(np.std(differences, ddof=1)), _DECIMALS)
    return detectable_effect(pairs, level=level) * spread if spread else None


def detectable_effect(pairs: int, *, level: float = LEVEL) -> float:
    """Return Cohen's dz that a two-sided paired t-test of so many pairs finds at POWER.

    Findings of the wrong sign, which are rarer than one in a thousand there, are not counted.
    """
    from scipy import optimize, stats

    critical = stats.t.ppf(1 - level / 2, pairs - 1)

    def shortfall(effect: float) -> float:
        return float(stats.nct.sf(critical, pairs - 1, effect * math.sqrt(pairs)) - POWER)

    return float(optimize.brentq(shortfall, 0.0, 2 * critical / math.sqrt(pairs)))
