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
    assert said[0].startswith("Means over casts (seeds of one cast are alike, so")
    assert "averaged over each cast" in said[1]
    one_seed = compare(select(read([tmp_path]), ["seed=0"]), metrics=["multi/confusion"])
    assert notes(one_seed)[0].startswith("Means over casts, with the 95 %")


def jobs_of(casts_of, *more):
    """Six seeds of each method's casts, with a value that each has its own of."""
    return {
        (f"method={method}", f"dataset.cast_seed={cast}", f"seed={seed}", *more): {
            "multi/confusion": 0.01 * cast + 0.001 * seed + (method == "clif"),
            "multi/side": 0.001 * seed if cast == 100 else None,
        }
        for method, casts in casts_of.items()
        for cast in casts
        for seed in range(6)
    }


def test_seeds_of_one_cast_are_no_sample_beside_groups_of_several(tmp_path):
    jobs = jobs_of({"clif": range(100, 107), "mix_only": [100]})
    found = compare(
        read([write_sweep(tmp_path / "s", jobs)]), metrics=["multi/confusion"], baseline="clif"
    )
    difference = found.differences["method=mix_only", "multi/confusion"]
    assert (difference.pairs, difference.p) == (1, None)
    assert found.means["method=mix_only", "multi/confusion"].interval is None
    assert "Of one cast there is none." in notes(found)[0]


def test_sets_of_ones_own_are_casts(tmp_path):
    """As runs, four sets' three seeds each would seem to show three times as much."""
    jobs = {
        (f"method={method}", f"dataset.root={name}", f"seed={seed}"): {
            "multi/side": 0.1 * place + 0.01 * seed + 0.2 * (method == "clif")
        }
        for method in ("clif", "mix_only")
        for place, name in enumerate(("cats", "dogs", "toys", "us"))
        for seed in range(3)
    }
    found = compare(
        read([write_sweep(tmp_path / "s", jobs)]),
        by=["method"],
        metrics=["multi/side"],
        baseline="clif",
    )
    mean = found.means["method=clif", "multi/side"]
    assert (mean.runs, mean.units) == (12, 4)
    assert not any("different concepts" in line for line in notes(found))
    apart = compare(read([tmp_path]), by=["dataset.root"], metrics=["multi/side"])
    assert any("of different concepts (dataset.root)" in line for line in notes(apart))
    assert found.differences["method=mix_only", "multi/side"].pairs == 4
    assert notes(found)[0].startswith("Means over casts (seeds of one cast are alike, so")


def test_a_metric_that_one_cast_has_measured_has_one_value(tmp_path):
    jobs = jobs_of({"clif": range(100, 106), "mix_only": range(100, 106)})
    found = compare(
        read([write_sweep(tmp_path / "s", jobs)]), metrics=["multi/side"], baseline="clif"
    )
    mean = found.means["method=clif", "multi/side"]
    assert (mean.runs, mean.units, mean.interval) == (6, 1, None)
    assert found.differences["method=mix_only", "multi/side"].p is None


def test_what_else_is_averaged_over_is_said(tmp_path):
    jobs = jobs_of({"clif": (100, 101)}, "diffusion.rank=4")
    jobs |= jobs_of({"clif": (100, 101)}, "diffusion.rank=16")
    runs = read([write_sweep(tmp_path / "s", jobs)])
    found = compare(runs, by=["method"], metrics=["multi/confusion"])
    assert notes(found)[0].startswith(
        "Means over casts, each over runs that differ in diffusion.rank, with the 95 %"
    )
