"""Overlap of attention maps over runs (Fig. 10)."""

from __future__ import annotations

import json

import pytest

from clif_exp.compare.grouping import group
from clif_exp.compare.reading import read
from clif_exp.generation.attention import MANIFEST
from clif_exp.studies import attention
from judged_runs import a_run


def test_the_overlap_is_over_casts(tmp_path):
    """Cast 200 has two seeds, 0.1 and 0.3; cast 201 has one, 0.6."""
    overlaps = {(200, 0): 0.1, (200, 1): 0.3, (201, 0): 0.6}
    folders = []
    for (cast, seed), value in overlaps.items():
        folder = a_run(tmp_path, "clif", seed=seed, intact=1, cast=cast)
        summary = json.loads((folder / "summary.json").read_text())
        summary["stages"]["attention"] = summary["stages"]["evaluation"]
        (folder / "summary.json").write_text(json.dumps(summary))
        maps = tmp_path / "store/attention" / summary["stages"]["attention"]["fingerprint"]
        maps.mkdir(parents=True)
        lines = [{"overlap": value - 0.05}, {"overlap": value + 0.05}, {"overlap": None}]
        (maps / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines))
        folders.append(folder)
    found = attention.collect(group(read(folders), ["method"]).groups)
    of = found["overlap"]["method=clif"]["attention"]
    assert of["mean"] == pytest.approx((0.2 + 0.6) / 2)
    assert sorted(of["values"].values()) == [0.1, 0.3, 0.6]
    assert found["pairs"] == 2
    assert "| method=clif | customised model | 3 | 0.400 |" in attention.caption(found)
