"""The statistics of a comparison, checked against SciPy, tables and cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from clif_exp.compare import statistics as ours

DIFFERENCES = [0.11, -0.02, 0.05, 0.3, 0.17, -0.08, 0.21, 0.04, 0.09]


def test_the_interval_is_scipys_bootstrap():
    values = np.array([0.3, 0.5, 0.45, 0.7, 0.62, 0.41])
    theirs = stats.bootstrap(
        (np.sort(values),), np.mean, n_resamples=9_999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours.bootstrap_interval(list(values)) == pytest.approx((theirs.low, theirs.high))
    found = ours.mean_of(list(values))
    assert (found.runs, found.mean) == (6, pytest.approx(values.mean()))
    assert found.interval[0] < found.mean < found.interval[1]


def test_order_and_the_last_digits_of_sums_change_nothing():
    values = [0.1 + 0.2, 0.3, 0.5, 0.41, 0.62]
    others = [0.62, 0.3, 0.41, 0.1 + 0.2, 0.5]
    assert ours.bootstrap_interval(values) == ours.bootstrap_interval(others)
    noisy, exact = [0.1 + 0.2, -0.3, 0.7, 0.9], [0.3, -0.3, 0.7, 0.9]
    assert ours.signed_rank_p(noisy) == ours.signed_rank_p(exact)
    assert ours.rank_biserial(noisy) == ours.rank_biserial(exact)


def test_one_run_has_no_interval_and_equal_runs_have_none_to_speak_of():
    assert ours.mean_of([0.5]).interval is None
    assert ours.mean_of([]) == ours.Mean(0, 0, None, None)
    assert ours.bootstrap_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert ours.bootstrap_interval([0.5 - 0.3, 0.6 - 0.4]) == (0.2, 0.2), "equal but for rounding"


def test_the_interval_over_units_draws_whole_units():
    values = np.array([0.3, 0.5, 0.45, 0.7, 0.62, 0.41])
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=1_999,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = ours.interval_over_units(list(values), lambda some: float(np.mean(some)))
    assert found == pytest.approx((theirs.low, theirs.high))
    # Ten equal values in each of two units: drawn apart, twenty values would vary far less.
    units = [[0.0] * 10, [1.0] * 10]
    assert ours.interval_over_units(units, lambda some: float(np.mean(some))) == (0.0, 1.0)
    assert ours.interval_over_units(units[:1], lambda some: float(np.mean(some))) is None


def test_draws_without_a_value_are_left_out_of_an_interval():
    units = [0.0, 1.0, 2.0]

    def spread(some):
        return float("nan") if len(set(some)) == 1 else 1.0

    assert ours.interval_over_units(units, spread) == (1.0, 1.0)


def test_p_is_exact_for_few_pairs():
    assert ours.signed_rank_p(DIFFERENCES) == stats.wilcoxon(DIFFERENCES, method="exact").pvalue
    # All six of one sign: two of the 2^6 ways to choose signs are as extreme.
    assert ours.signed_rank_p([1, 2, 3, 4, 5, 6]) == pytest.approx(2 / 64)
    assert ours.smallest_p(6) == 2 / 64


def test_p_is_exact_with_ties_too():
    tied = [1, 1, 1, -1, 2, 3, 0]
    method = stats.PermutationMethod(n_resamples=2**13)
    theirs = stats.wilcoxon([value for value in tied if value], method=method).pvalue
    assert ours.signed_rank_p(tied) == pytest.approx(theirs)
    # As many as five casts' three seeds, in steps of an image: SciPy tries all 2^15 signs.
    shares = [round(value * 24) / 24 for value in np.random.default_rng(3).normal(0.05, 0.1, 15)]
    known = [value for value in shares if value]
    theirs = stats.wilcoxon(known, method=stats.PermutationMethod(n_resamples=2**15)).pvalue
    assert ours.signed_rank_p(shares) == pytest.approx(theirs)
    # By hand: ranks 1.5 and 1.5; sums of +-1.5 +-1.5 are 3, 0, 0, -3: both of the extreme ones.
    assert ours.signed_rank_p([1, 1]) == 0.5


def test_p_of_many_pairs_is_scipys():
    many = list(np.random.default_rng(1).normal(0.1, 1, 60))
    assert ours.signed_rank_p(many) == stats.wilcoxon(many).pvalue
    assert ours.signed_rank_p([0.0, 0.0, 0.0]) == 1.0
    assert ours.signed_rank_p([0.3]) is None


def test_holm_is_that_of_a_worked_example():
    # 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1: the last two would fall below the one before them.
    found = ours.holm([0.04, 0.01, None, 0.03, 0.02])
    assert found == [pytest.approx(0.06), pytest.approx(0.04), None, *[pytest.approx(0.06)] * 2]
    assert ours.holm([0.6, 0.7]) == [1.0, 1.0]


def test_the_effect_is_the_rank_sums_difference():
    # |d| has the ranks 1, 2, 3; the negative one is rank 2: (1 + 3 - 2) / 6.
    assert ours.rank_biserial([0.1, -0.2, 0.3]) == pytest.approx(1 / 3)
    assert ours.rank_biserial([1, 2, 3]) == 1
    assert ours.rank_biserial([-1, -2, 0]) == -1
    assert ours.rank_biserial([0, 0]) == 0
    assert ours.rank_biserial([1]) is None


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_small_middle_and_large_effects_need_as_many_pairs_as_in_the_tables(effect, pairs):
    """Cohen's dz of 0.2, 0.5 and 0.8 at 0.05 and power 0.8: 199, 34 and 15 pairs (G*Power)."""
    assert ours.detectable_effect(pairs) <= effect < ours.detectable_effect(pairs - 1)


def test_what_is_called_detectable_is_found_four_times_in_five():
    rng, pairs = np.random.default_rng(0), 12
    samples = rng.normal(ours.detectable_effect(pairs, level=0.01), 1, (20_000, pairs))
    found = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.01
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_the_detectable_difference_is_in_the_metrics_unit_and_needs_enough_pairs():
    found = ours.smallest_detectable(DIFFERENCES)
    assert found == pytest.approx(ours.detectable_effect(9) * np.std(DIFFERENCES, ddof=1))
    assert ours.smallest_detectable(DIFFERENCES, comparisons=6) > found
    assert ours.smallest_detectable(DIFFERENCES[:5]) is None, "five pairs never reach 0.05"
    assert ours.smallest_detectable([0.5] * 9) is None, "no spread to judge by"
    assert ours.smallest_detectable([0.1 + 0.2, *[0.3] * 6]) is None, "equal but for rounding"


def test_groups_are_corrected_together():
    shifted = [value + 0.5 for value in DIFFERENCES]
    one, two, none = ours.compare_paired([shifted, DIFFERENCES, []])
    assert one.p == pytest.approx(2 / 2**9)
    assert one.holm == pytest.approx(2 * one.p)
    assert two.holm == two.p
    assert (none.pairs, none.mean, none.p, none.holm, none.detectable) == (
        0,
        None,
        None,
        None,
        None,
    )
