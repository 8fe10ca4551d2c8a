"""Sweeps through joblib, submitit and Ray: the same results, and no job takes another with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fake_slurm

ABLATION = ("-m", "+experiment=clif,ablate_gaug,ablate_raug,ablate_maug")
LAUNCHERS = ("joblib", "submitit_local", "ray")


def by_job(folder: Path) -> dict[str, dict]:
    """Readable part of a job's folder -> its summary.json."""
    files = folder.glob("*/summary.json")
    return {file.parent.name.rpartition("-")[0]: json.loads(file.read_text()) for file in files}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_each_launcher_gives_the_local_ones_metrics(clif_exp, tmp_path, launcher):
    tiny = ("debug=fast", "callbacks=quiet")
    local = clif_exp(*ABLATION, *tiny, "name=here")
    assert local.code == 0, local.errors
    choice = (f"hydra/launcher={launcher}", "name=there")
    other = clif_exp(*ABLATION, *tiny, *choice, store=tmp_path / "store", fresh=True)
    assert other.code == 0, other.errors
    assert other.errors == ""
    expected, found = by_job(tmp_path / "multirun/here"), by_job(tmp_path / "multirun/there")
    assert len(found) == 4
    assert found.keys() == expected.keys()
    for name, one in found.items():
        assert one["metrics"] == expected[name]["metrics"], name
        prints = [
            {key: stage["fingerprint"] for key, stage in summary["stages"].items()}
            for summary in (one, expected[name])
        ]
        assert prints[0] == prints[1], name
    assert sum(not one["stages"]["segments"]["reused"] for one in found.values()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_killed_and_refused_jobs_of_a_launcher_leave_the_others_alone(
    base_models, tmp_path, launcher
):
    given = ("debug=fast", "callbacks=quiet", "augmentation.seed=-1,0,1", "stages=[curation]")
    command = [sys.executable, "-m", "clif_exp", "-m", *given, f"hydra/launcher={launcher}"]
    with open(tmp_path / "output.txt", "w") as output:
        sweep = subprocess.Popen(
            [*command, *base_models], cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT
        )
    folder = tmp_path / "multirun" / "seed"
    kill_job(next_lock(folder, "seed=0-*", sweep))
    assert sweep.wait(900) == 2, (tmp_path / "output.txt").read_text()
    found = by_job(folder)
    statuses = {name: one["status"] for name, one in found.items()}
    assert statuses == {"seed=-1": "refused", "seed=0": "killed", "seed=1": "finished"}
    assert "killed by SIGKILL" in found["seed=0"]["error"]


def next_lock(folder: Path, pattern: str, sweep: subprocess.Popen) -> Path:
    """Wait until a job works, and return its lock."""
    deadline = time.monotonic() + 600
    while not (found := list(folder.glob(f"{pattern}/summary.json"))):
        assert sweep.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return found[0].parent / ".job.lock"


def kill_job(lock: Path) -> None:
    """Kill the process that holds a job's lock, as the system does when memory runs out."""
    with contextlib.suppress(FileNotFoundError):
        os.kill(int(lock.read_text().rpartition(":")[2]), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "ranks"), [([], 1), (["trainer=ddp_sim"], 2)], ids=["one task", "two tasks"]
)
def test_slurm_runs_a_sweep_of_jobs_of_one_or_several_tasks(clif_exp, tmp_path, trainer, ranks):
    path = f"{fake_slurm.install(tmp_path / 'bin')}:{os.environ['PATH']}"
    given = ("-m", "debug=fast", "callbacks=quiet", "seed=0,1", "name=there")
    choice = ("hydra/launcher=submitit_slurm", *trainer)
    result = clif_exp(*given, *choice, store=tmp_path / "store", fresh=True, PATH=path)
    assert result.code == 0, result.errors
    found = by_job(tmp_path / "multirun/there")
    assert {name: one["status"] for name, one in found.items()} == {
        "seed=0": "finished",
        "seed=1": "finished",
    }
    for folder in (tmp_path / "multirun/there").glob("seed=*"):
        assert len(list(folder.glob(".rank_*/summary.json"))) == ranks - 1
    alone = clif_exp("debug=fast", *trainer, "callbacks=quiet", "seed=1")
    assert found["seed=1"]["metrics"].keys() == alone.summary()["metrics"].keys()
    if ranks == 1:
        assert found["seed=1"]["metrics"] == alone.summary()["metrics"]
