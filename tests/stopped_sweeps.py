"""Sweeps started in an interpreter of their own, to be stopped, and what they leave."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clif_exp.artifacts.locks import is_free

SHORT = ("debug=fast", "callbacks=quiet", "stages=[curation]")
"""Overrides of a job that takes a second or two."""


@contextlib.contextmanager
def started_sweep(*arguments: str, folder: Path, store: Path) -> Iterator[subprocess.Popen]:
    """Start a sweep in a new interpreter, to be killed."""
    command = [sys.executable, "-m", "clif_exp", "-m", *arguments, f"artifacts.root={store}"]
    with open(folder / "output.txt", "a") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_listen_to_ctrl_c,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _listen_to_ctrl_c() -> None:
    """Undo what a shell does to what it starts in the background, such as a run of the tests."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def summaries(folder: Path) -> dict[str, dict[str, Any]]:
    """Name of each job's folder -> its summary.json."""
    found = [file for file in folder.glob("**/summary.json") if ".rank_" not in str(file)]
    return {file.parent.name: json.loads(file.read_text()) for file in found}


def wait_for_jobs(sweep: subprocess.Popen, folder: Path, *, finished: int) -> Path:
    """Wait until some jobs have finished, and return one's folder."""
    deadline = time.monotonic() + 900
    while True:
        done = [name for name, one in summaries(folder).items() if one["status"] == "finished"]
        if len(done) >= finished:
            return next(folder.glob(f"*/{done[0]}"))
        assert sweep.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_orphans(folder: Path) -> None:
    """Wait until the jobs of a killed sweep have ended, which they must."""
    deadline = time.monotonic() + 60
    while not all(is_free(lock) for lock in folder.glob("*/*/.job.lock")):
        assert time.monotonic() < deadline, "a job runs on without its sweep"
        time.sleep(0.1)
