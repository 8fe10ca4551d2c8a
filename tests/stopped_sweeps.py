"""Sweeps that are started to be stopped, and what they leave."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clif_exp.artifacts.locks import is_free
from warm_start import RunningCommand

SHORT = ("debug=fast", "callbacks=quiet", "stages=[curation]")
"""Overrides of a job that takes a second or two."""


@contextlib.contextmanager
def started_sweep(
    start: Callable[..., RunningCommand], *arguments: str, folder: Path, store: Path
) -> Iterator[RunningCommand]:
    """Start a sweep that is to be stopped; `start` is the fixture `start_clif_exp`."""
    sweep = start("-m", *arguments, folder=folder, store=store)
    try:
        yield sweep
    finally:
        if sweep.is_alive():
            sweep.kill()
        sweep.wait(60)


def summaries(folder: Path) -> dict[str, dict[str, Any]]:
    """Name of each job's folder -> its summary.json."""
    found = [file for file in folder.glob("**/summary.json") if ".rank_" not in str(file)]
    return {file.parent.name: json.loads(file.read_text()) for file in found}


def wait_for_jobs(sweep: RunningCommand, folder: Path, *, finished: int) -> Path:
    """Wait until some jobs have finished, and return one's folder."""
    deadline = time.monotonic() + 900
    while True:
        done = [name for name, one in summaries(folder).items() if one["status"] == "finished"]
        if len(done) >= finished:
            return next(folder.glob(f"*/{done[0]}"))
        assert sweep.is_alive() and time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_orphans(folder: Path) -> None:
    """Wait until the jobs of a killed sweep have ended, which they must."""
    deadline = time.monotonic() + 60
    while not all(is_free(lock) for lock in folder.glob("*/*/.job.lock")):
        assert time.monotonic() < deadline, "a job runs on without its sweep"
        time.sleep(0.1)
