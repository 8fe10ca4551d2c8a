"""Trials that do worse than others end while a stage trains; what they reported is kept."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from clif_exp.errors import Pruned
from clif_exp.runs.pruning import PruningLogger, pruning_loggers
from clif_exp.runs.settings import PruningSettings, TrialSettings
from clif_exp.runs.studies import open_storage

optuna = pytest.importorskip("optuna")
MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1}


def study_with_a_good_trial(file: Path, *, direction: str, good: float = 0.1) -> Any:
    """A study in which one trial has finished, with low losses."""
    study = optuna.create_study(
        storage=open_storage(str(file)), study_name="study", direction=direction
    )
    sign = 1 if direction == "minimize" else -1
    study.add_trial(
        optuna.trial.create_trial(
            value=0.5, intermediate_values=dict.fromkeys(range(1, 5), sign * good)
        )
    )
    return study


def trial_of(study: Any, file: Path) -> TrialSettings:
    return TrialSettings(storage=str(file), study="study", number=study.ask().number, pruner=MEDIAN)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_worse_loss_is_pruned_whichever_way_the_objective_points(tmp_path, direction):
    file = tmp_path / "study.journal"
    study = study_with_a_good_trial(file, direction=direction)
    better = PruningLogger(trial_of(study, file), metric="diffusion/loss")
    worse = PruningLogger(trial_of(study, file), metric="diffusion/loss")
    for step in range(4):
        better.log_metrics({"loss": 0.05, "lr": 9.0}, step=step)
    worse.log_metrics({"loss": 0.9, "lr": 0.0}, step=0)
    with pytest.raises(Pruned, match=r"step 1 .*diffusion/loss is 0.9"):
        worse.log_metrics({"loss": "0.9", "lr": 0.0}, step=1)
    known = [list(trial.intermediate_values) for trial in study.trials]
    assert known == [[1, 2, 3, 4], [1, 2, 3], [1]]


def test_a_resumed_stage_reports_no_step_twice_and_is_still_stopped(tmp_path, recwarn):
    file = tmp_path / "study.journal"
    study = study_with_a_good_trial(file, direction="minimize")
    settings = trial_of(study, file)
    logger = PruningLogger(settings, metric="diffusion/loss")
    logger.log_metrics({"loss": 0.05}, step=1)
    logger.log_metrics({"loss": float("nan")}, step=2)
    resumed = PruningLogger(settings, metric="diffusion/loss")
    resumed.log_metrics({"loss": 0.9}, step=1)
    resumed.log_metrics({"loss": 0.06}, step=3)
    assert study.trials[-1].intermediate_values == {1: 0.05, 3: 0.06}

    # Killed after the report, before it could stop.
    bad = trial_of(study, file)
    with pytest.raises(Pruned):
        PruningLogger(bad, metric="diffusion/loss").log_metrics({"loss": 0.9}, step=1)
    with pytest.raises(Pruned):
        PruningLogger(bad, metric="diffusion/loss").log_metrics({"loss": 0.9}, step=1)
    assert study.trials[-1].intermediate_values == {1: 0.9}
    assert not [one for one in recwarn if "already reported" in str(one.message)]


def test_a_stage_trains_on_when_its_study_cannot_be_reached(tmp_path, caplog):
    missing = TrialSettings(
        storage=str(tmp_path / "none" / "study.journal"), study="study", number=0, pruner=MEDIAN
    )
    logger = PruningLogger(missing, metric="diffusion/loss")
    for step in range(1, 4):
        logger.log_metrics({"loss": 0.9}, step=step)
    assert caplog.text.count("This job is not stopped early") == 1


def test_only_the_stage_that_decides_reports():
    trial = TrialSettings(storage="file", study="study", number=0, pruner=MEDIAN)
    decides = PruningSettings(metric="diffusion/validation_loss", trial=trial)
    assert len(pruning_loggers(decides, curve="diffusion")) == 1
    for settings, curve in (
        (decides, "contrastive"),
        (decides, "diffusion/cat"),
        (PruningSettings(metric=None, trial=trial), "diffusion"),
        (PruningSettings(metric="diffusion/loss", trial=None), "diffusion"),
    ):
        assert not pruning_loggers(settings, curve=curve)


def test_a_wild_learning_rate_is_pruned_while_its_stage_trains(clif_exp, tmp_path):
    search = [
        *("-m", "hydra/sweeper=optuna", "objective=stage1/identity", "debug=fast", "name=wild"),
        *("stages=[curation,contrastive]", "pruning.metric=contrastive/loss"),
        *("hydra.sweeper.pruner.n_startup_trials=1", "contrastive.learning_rate=choice(0.05,1e4)"),
        *(
            "contrastive.steps=12",
            "contrastive.weight_decay=0.0123",
            "hydra/sweeper/sampler=random",
            "hydra.sweeper.sampler.seed=1",
        ),
    ]
    first = clif_exp(*search, "hydra.sweeper.n_trials=1")
    assert first.code == 1, "a trial without a value is no answer"
    journal = tmp_path / "multirun" / "wild" / "study.journal"
    study = optuna.load_study(study_name="wild", storage=open_storage(str(journal)))
    (good,) = study.trials
    assert good.state.name == "FAIL"
    assert good.params["contrastive.learning_rate"] == "0.05"
    assert len(good.intermediate_values) == 12
    study.add_trial(  # as if its images had been drawn and judged
        optuna.trial.create_trial(
            value=0.9,
            params=good.params,
            distributions=good.distributions,
            intermediate_values={
                step: value - 1e-4 for step, value in good.intermediate_values.items()
            },
        )
    )
    second = clif_exp(*search, "hydra.sweeper.n_trials=4")
    assert second.code == 0, second.errors
    study = optuna.load_study(study_name="wild", storage=open_storage(str(journal)))
    by_rate: dict[str, list[Any]] = {}
    for trial in study.trials[2:]:
        by_rate.setdefault(trial.params["contrastive.learning_rate"], []).append(trial)
    wild = by_rate.pop("10000.0")
    # Its stage is reused from the store, and reports nothing.
    assert [one.intermediate_values for one in by_rate["0.05"]] == [{}] * len(by_rate["0.05"])
    assert {trial.state.name for trial in wild} == {"PRUNED"}
    assert all(0 < len(trial.intermediate_values) < 12 for trial in wild)
    summaries = [
        json.loads(next(journal.parent.glob(f"{trial.number:03d}-*/summary.json")).read_text())
        for trial in wild
    ]
    for summary in summaries:
        assert summary["status"] == "pruned"
        assert "contrastive/loss" in summary["error"]
        assert "contrastive" not in summary["stages"]
    assert "pruned" in second.output
    assert "error" not in second.errors


@pytest.mark.slow
def test_a_search_of_real_jobs_goes_on_after_sigkill_and_prunes_by_validation_loss(
    clif_exp, tmp_path, base_models
):
    store = tmp_path / "store"
    command = [
        *("-m", "hparams_search=stage2", "debug=fast", "hydra.sweeper.n_trials=5"),
        *("diffusion.learning_rate=choice(2e-3,0.3)", "hydra.sweeper.pruner.n_startup_trials=1"),
        *("hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=1"),
        *("diffusion.rank=4", "diffusion.pair_share=0.5", "diffusion.prior_share=0.25"),
        *("diffusion.timestep_bias=1.0", "diffusion.steps=30", "diffusion.validation.every=5"),
        *("trainer.checkpoint_every_n_steps=4", "hydra/sweeper/pruner=median"),
    ]
    killed = subprocess.Popen(
        [sys.executable, "-m", "clif_exp", *base_models, *command, f"artifacts.root={store}"],
        cwd=tmp_path,
    )
    while sum(len(f.read_text().splitlines()) for f in store.glob("diffusion/*/metrics.csv")) < 15:
        assert killed.poll() is None
        time.sleep(0.1)
    killed.kill()
    killed.wait()
    result = clif_exp(*command, store=store)
    assert result.code == 0, result.errors

    sweep = tmp_path / "multirun" / "search_stage2"
    storage = open_storage(str(sweep / "study.journal"))
    trials = optuna.load_study(study_name="search_stage2", storage=storage).trials
    assert len(trials) == 5
    assert len(list(sweep.glob("0*"))) == 5, "the killed trial went on in its folder"
    assert trials[0].state.name == "COMPLETE"
    assert list(trials[0].intermediate_values) == [5, 10, 15, 20, 25, 30]
    wild = [trial for trial in trials if trial.params["diffusion.learning_rate"] == "0.3"]
    assert {trial.state.name for trial in wild} == {"PRUNED"}
    assert all(list(trial.intermediate_values) == [5] for trial in wild)
    assert all(trial.state.name == "COMPLETE" for trial in trials if trial not in wild), (
        "what is reused from the store reports nothing"
    )
    assert "learning_rate: 0.002" in (sweep / "best.yaml").read_text()
    assert "pruned" in result.output
