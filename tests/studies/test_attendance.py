"""Who is missing (Fig. 9): which runs' concepts are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clif_exp.compare.grouping import group
from clif_exp.compare.reading import read
from clif_exp.studies import attendance
from run_folders import write_sweep


def groups(tmp_path, casts):
    jobs = {
        (f"method={method}", f"dataset.cast_seed={cast}", f"seed={seed}"): {"multi/side": 0.5}
        for method in ("clif", "mix_only")
        for cast, seed in casts
    }
    runs = read([write_sweep(tmp_path / "s", jobs)])
    # Luna is somebody else in each cast, and missing from the later ones.
    shares = {100: 1.0, 101: 0.5}
    return group(
        [
            replace(
                run,
                concepts={
                    "luna": {"attendance": shares[run.settings["dataset.cast_seed"]]},
                    "otto": {"attendance": 1.0},
                },
            )
            for run in runs
        ],
        ["method"],
    ).groups


def test_concepts_of_several_casts_are_told_apart(tmp_path):
    found = attendance.collect(groups(tmp_path, [(100, 0), (100, 1), (100, 2), (101, 0)]))
    assert found["concepts"]["method=clif"]["cast 101: luna"] == [0.5]
    assert found["concepts"]["method=clif"]["cast 100: luna"] == [1.0, 1.0, 1.0]
    assert found["means"]["method=clif"]["mean"] == pytest.approx((1.0 + 0.75) / 2), (
        "of casts, not of runs"
    )
    attendance.draw(found, tmp_path / "attendance.svg")
    assert "cast 101: luna" in (tmp_path / "attendance.svg").read_text()
    assert "| method=clif | 4 | 0.875 | 0.750 to 1.000 |" in attendance.caption(found)


def test_of_one_cast_seeds_are_what_varies(tmp_path):
    found = attendance.collect(groups(tmp_path, [(100, 0), (100, 1)]))
    assert found["concepts"]["method=clif"]["luna"] == [1.0, 1.0]
    assert found["means"]["method=clif"]["runs"] == 2
