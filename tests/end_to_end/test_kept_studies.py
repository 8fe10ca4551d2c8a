"""A study goes on from what was committed of it, on a machine that has nothing else of it."""

from __future__ import annotations

import shutil
import signal

from clif_exp.compare.reading import read
from clif_exp.compare.writing import RUNS
from stopped_sweeps import SHORT, started_sweep, wait_for_jobs

TABLE2 = (
    *("+experiment=table2", "debug=fast", "diffusion.images_per_concept=8", "seed=0"),
    *("dataset.cast_seed=null", "dataset.size=2", "generation.seeds=[0]"),
)


def test_a_study_goes_on_from_its_committed_runs(clif_exp, tmp_path):
    first = clif_exp(*TABLE2, "method=clif")
    assert first.code == 0, first.errors
    kept = tmp_path / "experiments" / "table2" / RUNS
    (before,) = read([kept])
    shutil.rmtree(tmp_path / "multirun")
    again = clif_exp(*TABLE2, "method=clif,clif_without_m", store=tmp_path / "elsewhere")
    assert again.code == 0, again.errors
    assert "2 jobs, 1 of them finished: " in again.output
    (folder,) = again.folders
    assert again.summary()["method"] == "clif_without_m"
    after = {run.settings["method.name"]: run for run in read([kept])}
    assert set(after) == {"clif", "clif_without_m"}
    assert after["clif"] == before
    assert not list((tmp_path / "elsewhere").glob("augment_M/*")), "the kept job's work"
    assert "<td" in (folder.parent / "comparison.html").read_text()
    assert "method=clif_without_m" in kept.with_name("table.md").read_text()
    shutil.rmtree(tmp_path / "multirun")
    nothing = clif_exp(*TABLE2, "method=clif,clif_without_m", store=tmp_path / "third")
    assert nothing.code == 0, nothing.errors
    assert "2 jobs, 2 of them finished: nothing is left to do" in nothing.output
    assert not nothing.folders
    assert {run.settings["method.name"]: run for run in read([kept])} == after


def test_ctrl_c_keeps_the_jobs_that_have_finished(base_models, tmp_path, shared_store):
    keep = "{folder: kept, group_by: [augmentation.seed], metrics: [minutes], baseline: null,"
    given = (*SHORT, "augmentation.seed=18,19,20", f"hydra.sweeper.keep={keep} figures: []}}")
    with started_sweep(*given, *base_models, folder=tmp_path, store=shared_store) as sweep:
        wait_for_jobs(sweep, tmp_path / "multirun", finished=1)
        sweep.send_signal(signal.SIGINT)
        assert sweep.wait(60) != 0
    runs = read([tmp_path / "kept" / RUNS])
    assert 1 <= len(runs) < 3
    assert {run.status for run in runs} == {"finished"}
    assert (tmp_path / "kept" / "table.md").is_file()
