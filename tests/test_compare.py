"""What benchmarks/compare.py writes of its runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "compare.py"


def table(runs):
    spec = importlib.util.spec_from_file_location("compare", FILE)
    compare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compare)
    return compare.table({"runs": runs, "against": None})


def of(**attendance):
    return {name: {"attendance": value, "confusion": 0.5} for name, value in attendance.items()}


def test_attendance_stands_per_concept_with_and_without():
    with_it = {"0": {"concepts": of(milo=1.0, otto=0.5)}, "1": {"concepts": of(milo=0.8, otto=0.5)}}
    without = {"0": {"concepts": of(milo=0.25)}}
    text = table({"clif": with_it, "without M-Aug": without})
    assert "| attendance in images of several | clif | without M-Aug |" in text
    assert "| milo | 0.90 | 0.25 |" in text, "the mean over seeds"
    assert "| otto | 0.50 |  |" in text


def test_casts_share_names_but_no_rows_and_older_results_have_none():
    casts = {f"cast {cast}, seed 0": {"concepts": of(milo=cast / 400)} for cast in (100, 200)}
    text = table({"clif": casts})
    assert "| cast 100: milo | 0.25 |" in text
    assert "| cast 200: milo | 0.50 |" in text
    assert "attendance in images" not in table({"clif": {"0": {"multi/attendance": 1.0}}})
