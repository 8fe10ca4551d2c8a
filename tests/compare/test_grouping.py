"""What keeps runs from being a pair, and which names of metrics there are before there are runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clif_exp.compare import measures
from clif_exp.compare.formats import markdown
from clif_exp.compare.grouping import group, label_values
from clif_exp.compare.reading import read
from clif_exp.compare.table import Cell, Table
from run_folders import write_run, write_sweep


@pytest.fixture
def runs(tmp_path):
    """Two methods, two casts."""
    jobs = {
        (f"method={method}", f"dataset.cast_seed={cast}"): {"multi/confusion": 0.5}
        for method in ("clif", "mix_only")
        for cast in (100, 101)
    }
    return read([write_sweep(tmp_path / "multirun" / "s", jobs)])


def test_the_name_of_a_study_keeps_no_runs_from_being_a_pair(runs):
    renamed = [
        replace(run, settings={**run.settings, "name": run.settings["method.name"]}) for run in runs
    ]
    assert "name" not in group(renamed, ["method"]).unit


def test_a_setting_that_some_runs_are_older_than_keeps_none_from_being_a_pair(runs):
    found = [
        replace(run, settings={**run.settings, "generation.new": 1.0})
        if run.settings["method.name"] == "clif"
        else run
        for run in runs
    ]
    assert "generation.new" not in group(found, ["method"]).unit
    assert group(found).by == ["method.name"]


def test_metrics_are_checked_before_there_are_runs():
    for right in ("multi/intact", "multi/layout_*/intact", "seconds/diffusion", "minutes", "*"):
        measures.check([right], option="keep.metrics")
    with pytest.raises(ValueError, match=r"keep\.metrics: found 'multi/intakt'.*mean intact"):
        measures.check(["multi/intakt"], option="keep.metrics")


def test_one_is_the_same_setting_however_it_is_written(tmp_path):
    for name, alpha, seed in (("a", "1.0", 0), ("b", "1", 1)):
        write_run(tmp_path / name, f"diffusion.alpha={alpha}", f"seed={seed}")
    (found,) = group(read([tmp_path])).groups
    assert len(found.runs) == 2


def test_markdown_takes_no_concept_for_a_tag():
    table = Table("", ["concept", "n"], [[Cell("<milo>|x"), Cell("1")]])
    assert "| &lt;milo>\\|x | 1 |" in markdown([table], [])


def test_a_label_has_room_for_values_where_its_settings_have_none():
    assert label_values("method=clif, generation.guidance=null") == ["clif", "null"]
    assert label_values("all runs") == ["all runs"]
