"""What a comparison takes as independent: casts, not their seeds."""

from __future__ import annotations

import pytest

from clif_exp.compare.comparison import compare, notes
from clif_exp.compare.grouping import select
from clif_exp.compare.reading import read
from run_folders import write_sweep


def test_a_cast_is_one_value_however_many_seeds_it_has(tmp_path):
    """Six casts of which one has three seeds: as units, nine runs would seem to show more."""
    units = [(cast, 0) for cast in range(100, 106)] + [(100, 1), (100, 2)]
    value = {cast: 0.1 * (cast - 99) for cast in range(100, 106)}
    jobs = {
        (f"method={method}", f"dataset.cast_seed={cast}", f"seed={seed}"): {
            "multi/confusion": value[cast] + more + 0.03 * seed * (method == "clif")
        }
        for method, more in (("clif", 0.0), ("mix_only", 0.2))
        for cast, seed in units
    }
    found = compare(
        read([write_sweep(tmp_path / "s", jobs)]), metrics=["multi/confusion"], baseline="clif"
    )
    mean = found.means["method=clif", "multi/confusion"]
    assert (mean.runs, mean.units) == (8, 6)
    assert mean.mean == pytest.approx((0.13 + 0.2 + 0.3 + 0.4 + 0.5 + 0.6) / 6)
    difference = found.differences["method=mix_only", "multi/confusion"]
    assert difference.pairs == 6
    assert difference.mean == pytest.approx((0.17 + 5 * 0.2) / 6), "0.2, 0.17 and 0.14 of cast 100"
    assert difference.p == pytest.approx(2 / 64)
    said = notes(found)
    assert said[0].startswith("Means over casts (runs of one cast are alike, so")
    assert "averaged over each cast" in said[1]
    one_seed = compare(select(read([tmp_path]), ["seed=0"]), metrics=["multi/confusion"])
    assert notes(one_seed)[0].startswith("Means over casts, with the 95 %")


def test_the_best_is_the_same_whatever_the_last_digits_are(tmp_path):
    jobs = {("method=a",): {"multi/side": 0.1 + 0.2}, ("method=b",): {"multi/side": 0.3}}
    jobs[("method=c",)] = {"multi/side": 0.2}
    found = compare(read([write_sweep(tmp_path / "s", jobs)]), metrics=["multi/side"])
    assert found.best("multi/side") == {"method=a", "method=b"}
