"""Which runs of a committed file stand for which jobs of a sweep."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from clif_exp.compare.run import Run
from clif_exp.compare.saved import write_saved
from clif_exp.compare.writing import RUNS
from clif_exp.studies.settings import AttendanceFigure, DistanceFigure
from clif_exp.sweeps.jobs import Job, expand
from clif_exp.sweeps.kept import Committed, committed_runs
from clif_exp.sweeps.planning import Forecast
from clif_exp.sweeps.results import _table, keep_study
from clif_exp.sweeps.settings import KeepSettings

JOB = Job((), ())
PRINTS = {"diffusion": "d" * 64, "evaluation": "e" * 64}
CONFIG = {
    "method": {"name": "clif"},
    "diffusion": {"rank": 16, "target_modules": ["to_q", "to_k"]},
    "trainer": {"accelerator": "gpu"},
    "artifacts": {"root": "here", "reuse": True},
    "hydra": {"job": {"num": 3}},
}
RUN = Run(
    folder=Path("table1/job"),
    name="method=clif",
    sweep=Path("table1"),
    status="finished",
    error=None,
    seed=0,
    settings={
        "method.name": "clif",
        "diffusion.rank": 16,
        "diffusion.target_modules": "[to_q, to_k]",
        "trainer.accelerator": "cpu",
        "artifacts.root": "there",
    },
    metrics={"multi/intact": 0.5},
    artifacts=PRINTS | {"export": "a" * 64},
)


def kept_in(folder: Path, *, figures=(), reuse=()) -> KeepSettings:
    return KeepSettings(
        folder=str(folder),
        group_by=[],
        metrics=[],
        baseline=None,
        figures=list(figures),
        reuse=[str(other) for other in reuse],
    )


def found(folder: Path, *runs: Run, config=CONFIG, forecast=None, figures=()) -> Committed:
    """Commit runs, and return what they are to the one job of a sweep."""
    write_saved(folder / RUNS, runs)
    forecast = Forecast(PRINTS) if forecast is None else forecast
    composed = OmegaConf.create(config)
    kept = kept_in(folder, figures=figures)
    return committed_runs(kept, [JOB], [composed], [forecast], started=1)


def test_a_run_stands_for_the_job_that_would_make_the_same(tmp_path):
    committed = found(tmp_path, RUN)
    assert committed.of_jobs[JOB].metrics == RUN.metrics
    assert (len(committed.of_jobs), committed.others, committed.stale) == (1, (), 0)
    assert found(tmp_path, RUN, figures=[AttendanceFigure(kind="attendance")]) == committed


def test_a_run_of_the_same_means_comes_first_and_stands_for_one_job(tmp_path):
    gpu = replace(RUN, settings=RUN.settings | {"trainer.accelerator": "gpu"}, seed=7)
    committed = found(tmp_path, RUN, gpu)
    assert committed.of_jobs[JOB].seed == 7
    assert committed.stale == 1


def test_a_run_takes_settings_that_are_younger_than_it(tmp_path):
    committed = found(tmp_path, RUN, config=CONFIG | {"younger": {"setting": 1}})
    assert committed.of_jobs[JOB].settings["younger.setting"] == 1
    assert committed.of_jobs[JOB].settings["trainer.accelerator"] == "cpu", "as it was"


def test_what_has_finished_here_is_read_from_here(tmp_path):
    stages = {name: {"fingerprint": it} for name, it in PRINTS.items()}
    job = Job((), (), tmp_path / "job")
    job.folder.mkdir()
    (job.folder / "summary.json").write_text(json.dumps({"status": "finished", "stages": stages}))
    write_saved(tmp_path / RUNS, [RUN])
    composed, forecast = OmegaConf.create(CONFIG), Forecast(PRINTS)
    committed = committed_runs(kept_in(tmp_path), [job], [composed], [forecast], started=1)
    assert committed == Committed()


def test_runs_of_a_study_s_other_jobs_are_told_from_stale_ones(tmp_path):
    other = PRINTS | {"evaluation": "0" * 64}
    runs = [RUN, replace(RUN, artifacts=other, seed=1), replace(RUN, artifacts={}, seed=2)]
    write_saved(tmp_path / RUNS, runs)
    composed = [OmegaConf.create(CONFIG)] * 2
    forecasts = [Forecast(PRINTS), Forecast(other)]
    jobs = [JOB, Job(("seed=1",), ())]
    committed = committed_runs(kept_in(tmp_path), jobs, composed, forecasts, started=1)
    assert list(committed.of_jobs) == [JOB]
    assert [run.seed for run in committed.others] == [1]
    assert committed.stale == 1


def test_runs_of_another_study_stand_for_jobs_where_it_is_named(tmp_path):
    settings = RUN.settings | {"name": "table1"}
    write_saved(tmp_path / "table1" / RUNS, [replace(RUN, settings=settings)])
    given = ([JOB], [OmegaConf.create(CONFIG | {"name": "table2"})], [Forecast(PRINTS)])
    alone = committed_runs(kept_in(tmp_path / "table2"), *given, started=1)
    assert alone == Committed()
    kept = kept_in(tmp_path / "table2", reuse=[tmp_path / "table1", tmp_path / "none"])
    committed = committed_runs(kept, *given, started=1)
    assert committed.of_jobs[JOB].metrics == RUN.metrics
    assert committed.of_jobs[JOB].settings["name"] == "table2", "so that it has its pairs there"
    assert committed.stale == 0, "the other study's file stays as it is"
    assert committed.borrowed == {JOB}
    # A part of the study asks for its own jobs only; what it stops at is no study yet.
    assert not committed_runs(kept, *given, started=0).others
    keep_study([], kept, console=Console(), committed=committed, stopped=True)
    assert not (tmp_path / "table2").exists()
    keep_study([], kept, console=Console(), committed=committed)
    assert (tmp_path / "table2" / RUNS).is_file()


@pytest.mark.parametrize(
    ("changed", "given"),
    [
        ({"status": "failed"}, {}),
        ({"artifacts": {}}, {}),
        ({"artifacts": PRINTS | {"diffusion": "f" * 64}}, {}),
        ({"artifacts": {"evaluation": PRINTS["evaluation"]}}, {}),
        ({"settings": RUN.settings | {"method.name": "custom_clif"}}, {}),
        ({}, {"config": CONFIG | {"artifacts": {"root": "here", "reuse": False}}}),
        ({}, {"forecast": Forecast(PRINTS, error="cannot be foreseen")}),
        ({}, {"forecast": Forecast()}),
        ({}, {"figures": [DistanceFigure(kind="distance")]}),
    ],
)
def test_no_other_run_does(tmp_path, changed, given):
    committed = found(tmp_path, replace(RUN, **changed), **given)
    assert not committed.of_jobs and not committed.others
    assert committed.stale == (changed.get("status") != "failed")


def test_a_table_tells_settings_of_one_name_apart():
    stated = (("contrastive.steps=10", "contrastive.steps=20"), ("diffusion.steps=1",))
    jobs = expand([*stated, ("diffusion.rank=4", "diffusion.rank=8")])
    table = _table({job: {} for job in jobs}, ["failed"] * 4, objective=None)
    assert list(table.columns) == ["steps", "rank", "status"]
    both = expand([stated[0], ("diffusion.steps=1", "diffusion.steps=2")])
    table = _table({job: {} for job in both}, ["failed"] * 4, objective=None)
    assert list(table.columns) == ["contrastive.steps", "diffusion.steps", "status"]
    assert [cell.text for cell in table.rows[1]] == ["10", "2", "failed"]


def test_without_a_committed_file_nothing_is_kept(tmp_path):
    given = ([JOB], [OmegaConf.create(CONFIG)], [Forecast(PRINTS)])
    assert committed_runs(kept_in(tmp_path), *given, started=1) == Committed()
    assert committed_runs(None, *given, started=1) == Committed()


def test_a_damaged_file_is_refused_before_anything_runs(tmp_path):
    (tmp_path / RUNS).write_text('{"clif_exp_runs": 1, "settings"')
    given = ([JOB], [OmegaConf.create(CONFIG)], [Forecast(PRINTS)])
    with pytest.raises(ValueError, match="make the file again"):
        committed_runs(kept_in(tmp_path), *given, started=1)
