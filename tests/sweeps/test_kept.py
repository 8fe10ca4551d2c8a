"""Which runs of a committed file stand for which jobs of a sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from clif_exp.compare.run import Run
from clif_exp.compare.saved import write_saved
from clif_exp.compare.writing import RUNS
from clif_exp.studies.settings import AttendanceFigure, DistanceFigure
from clif_exp.sweeps.jobs import Job
from clif_exp.sweeps.kept import kept_runs
from clif_exp.sweeps.planning import Forecast
from clif_exp.sweeps.settings import KeepSettings

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


def found(folder: Path, run: Run, *, config=CONFIG, forecast=None, figures=()) -> list[Run]:
    """Commit a run, and return what stands for the one job of a sweep."""
    write_saved(folder / RUNS, [run])
    kept = KeepSettings(
        folder=str(folder), group_by=[], metrics=[], baseline=None, figures=list(figures)
    )
    forecast = Forecast(PRINTS) if forecast is None else forecast
    composed = OmegaConf.create(config)
    return list(kept_runs(kept, [Job((), ())], [composed], [forecast]).values())


def test_a_run_stands_for_the_job_that_would_make_the_same(tmp_path):
    (run,) = found(tmp_path, RUN)
    assert run.metrics == RUN.metrics
    assert found(tmp_path, RUN, figures=[AttendanceFigure(kind="attendance")]) == [run]


def test_a_setting_younger_than_the_run_is_no_difference(tmp_path):
    assert found(tmp_path, RUN, config=CONFIG | {"younger": {"setting": 1}})


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
    assert not found(tmp_path, replace(RUN, **changed), **given)


def test_without_a_committed_file_nothing_is_kept(tmp_path):
    kept = KeepSettings(folder=str(tmp_path), group_by=[], metrics=[], baseline=None, figures=[])
    given = ([Job((), ())], [OmegaConf.create(CONFIG)], [Forecast(PRINTS)])
    assert kept_runs(kept, *given) == {} == kept_runs(None, *given)


def test_a_damaged_file_is_refused_before_anything_runs(tmp_path):
    (tmp_path / RUNS).write_text('{"clif_exp_runs": 1, "settings"')
    kept = KeepSettings(folder=str(tmp_path), group_by=[], metrics=[], baseline=None, figures=[])
    with pytest.raises(ValueError, match="make the file again"):
        kept_runs(kept, [Job((), ())], [OmegaConf.create(CONFIG)], [Forecast(PRINTS)])
