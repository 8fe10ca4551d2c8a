"""A killed job's W&B run is continued by the job that goes on, and by no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clif_exp.runs.trackers import killed_run

HOLD = """
import os, signal, sys
from pathlib import Path
from clif_exp.artifacts.locks import process_lock

with process_lock(Path(sys.argv[1]) / "wandb" / "abcd1234.running"):
    print("started", flush=True)
    sys.stdin.readline()
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""
TRACK = """
import os, signal, sys
from pathlib import Path
from clif_exp.runs.trackers import Trackers
from support import default_config

trackers = Trackers(default_config("logger=wandb").logger, folder=Path(sys.argv[1]), name="job")
trackers.start({"seed": 0})
print(trackers.loggers[0].experiment.id, flush=True)
sys.stdin.readline()
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
trackers.finish(0)
"""


def start(script: str, folder: Path, end: str) -> tuple[subprocess.Popen, str]:
    """Start a job that ends as told when it is sent a line; returns what it says first."""
    job = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "WANDB_MODE": "offline"},
    )
    return job, job.stdout.readline().strip()


def run_folder(path: Path, *, config: str = "seed: 0") -> Path:
    (path / ".hydra").mkdir(parents=True)
    (path / ".hydra" / "config.yaml").write_text(config)
    return path


@pytest.mark.parametrize("end", ["killed", "finished"])
def test_only_a_killed_jobs_run_is_found_and_only_once(tmp_path, end):
    first, again = run_folder(tmp_path / "1"), run_folder(tmp_path / "2")
    other = run_folder(tmp_path / "3", config="seed: 1")
    job, _ = start(HOLD, first, end)
    assert killed_run(again) is None, "it still runs"
    job.communicate("\n", timeout=60)
    assert killed_run(other) is None, "a job of another config"
    assert killed_run(again) == ("abcd1234" if end == "killed" else None)
    assert killed_run(again) is None


def test_a_sweeps_job_finds_its_run_in_its_own_folder(tmp_path):
    job, _ = start(HOLD, run_folder(tmp_path / "job"), "killed")
    job.communicate("\n", timeout=60)
    assert killed_run(tmp_path / "job") == "abcd1234"


@pytest.mark.slow
def test_wandb_continues_a_killed_run(tmp_path):
    ids = []
    for name, end in (("1", "killed"), ("2", "finished"), ("3", "finished")):
        job, identity = start(TRACK, run_folder(tmp_path / name), end)
        job.communicate("\n", timeout=120)
        ids.append(identity)
    assert ids[0] == ids[1] != ids[2]
