"""A study goes on from what was committed of it, on a machine that has nothing else of it."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from clif_exp.compare.reading import read
from clif_exp.compare.writing import RUNS
from clif_exp.errors import INTERRUPTED
from stopped_sweeps import started_sweep, wait_for_jobs

TABLE2 = (
    *("+experiment=table2", "debug=fast", "diffusion.images_per_concept=8", "seed=0"),
    *("dataset.cast_seed=null", "dataset.size=2", "generation.seeds=[0]"),
)
OWN = """\
# @package _global_
name: own
stages: [curation]
hydra:
  mode: MULTIRUN
  sweeper:
    params: {augmentation.seed: "18,19", dataset.cast_seed: null}
    keep:
      folder: kept
      group_by: [augmentation.seed]
      metrics: [minutes]
      baseline: augmentation.seed=18
      figures: []
"""


@pytest.fixture
def own_study(clif_exp, tmp_path):
    """Run a study of two short jobs, of which nothing lies in multirun/."""
    config = tmp_path / "own" / "experiment" / "own.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(OWN)

    def run(*overrides: str):
        shutil.rmtree(tmp_path / "multirun", ignore_errors=True)
        place = f"hydra.searchpath=[file://{tmp_path / 'own'}]"
        return clif_exp("+experiment=own", "debug=fast", "callbacks=quiet", place, *overrides)

    return run


def seeds_in(file: Path) -> list[object]:
    return sorted(run.settings["augmentation.seed"] for run in read([file]))


@pytest.mark.slow
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
    page = (folder.parent / "comparison.html").read_text()
    assert "clif_without_m" in page and "2 runs" in page
    assert "method=clif_without_m" in kept.with_name("table.md").read_text()


def test_a_study_is_computed_in_parts(own_study, tmp_path):
    kept = tmp_path / "kept" / RUNS
    part = own_study("augmentation.seed=19")
    assert part.code == 0, part.errors
    assert "no run of augmentation.seed=18 yet, so no differences" in part.output
    (before,) = read([kept])
    other = own_study("augmentation.seed=18")
    assert other.code == 0, other.errors
    assert len(other.folders) == 1
    assert before in read([kept])
    assert seeds_in(kept) == [18, 19]
    assert "difference" in kept.with_name("table.md").read_text().lower()
    committed = {file.name: file.read_bytes() for file in kept.parent.iterdir()}
    whole = own_study()
    assert whole.code == 0, whole.errors
    assert "2 jobs, 2 of them finished: nothing is left to do" in whole.output
    assert not whole.folders
    again = {file.name: file.read_bytes() for file in kept.parent.iterdir()}
    assert again == committed, "in its own order, which is not the command's; tables too"


def test_jobs_that_fail_cost_no_committed_run(own_study, tmp_path):
    assert own_study("augmentation.seed=19").code == 0
    committed = (tmp_path / "kept" / RUNS).read_bytes()
    failed = own_study("augmentation.seed=18", "augmentation.contexts.seed=-1")
    assert failed.code == 2 and failed.summary()["status"] == "refused"
    assert (tmp_path / "kept" / RUNS).read_bytes() == committed
    both = own_study("augmentation.seed=19,-1", "hydra.sweeper.keep.baseline=null")
    assert both.code == 2
    runs = read([tmp_path / "kept" / RUNS])
    assert {run.settings["augmentation.seed"]: run.status for run in runs} == {
        19: "finished",
        -1: "refused",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("baseline=augmentation.seed=20", "hydra.sweeper.keep.baseline: no group called"),
        ("group_by=[augmentation.sed]", "hydra.sweeper.keep.group_by: no run has a setting"),
        (
            "metrics=[multi/foo]",
            "hydra.sweeper.keep.metrics: found 'multi/foo', which is no metric",
        ),
    ],
)
def test_what_no_job_has_is_refused_at_once(own_study, change, said):
    key, _, value = change.partition("=")
    result = own_study(
        f"hydra.sweeper.keep.{key}='{value}'"
        if key == "baseline"
        else f"hydra.sweeper.keep.{key}={value}"
    )
    assert result.code == 2
    assert said in result.errors
    assert not result.folders


def test_ctrl_c_keeps_the_jobs_that_have_finished(start_clif_exp, tmp_path, shared_store):
    keep = "{folder: kept, group_by: [contrastive.steps], metrics: [minutes], baseline: null,"
    given = ("debug=fast", "callbacks=quiet", "stages=[curation,contrastive]", "name=stopped")
    given += (f"hydra.sweeper.keep={keep} figures: []}}",)
    said = ""
    for steps in ("1,1000001", "2,1000002"):  # the second job would take hours
        with started_sweep(
            start_clif_exp,
            *(*given, f"contrastive.steps={steps}"),
            folder=tmp_path,
            store=shared_store,
        ) as sweep:
            first = wait_for_jobs(sweep, tmp_path / "multirun", finished=1)
            sweep.kill(signal.SIGINT)
            ended = sweep.wait(60)
        assert ended.returncode == INTERRUPTED
        said += ended.stdout + ended.stderr
        (run,) = read([tmp_path / "kept" / RUNS])
        assert (run.status, run.settings["contrastive.steps"]) == ("finished", 1)
        shutil.rmtree(first.parent)
    # Before its jobs start, and again when it is stopped.
    assert "study: kept holds 1 run that this command will replace when it ends" in said
    assert "stays as it is: it holds 1 run that" in said
    assert said.count("clif_exp: stopped; the same command goes on") == 2
    assert "Traceback" not in said


def test_jobs_that_would_all_be_refused_for_one_reason_are_refused_once(own_study):
    result = own_study("augmentation.contexts.seed=-1")
    assert result.code == 2
    (line,) = [line for line in result.errors.splitlines() if "augmentation.contexts.seed" in line]
    assert line.endswith("(so each of the 2 jobs)")
    assert not result.folders
