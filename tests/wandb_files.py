"""Reads back what an offline W&B run wrote, by W&B's own `wandb leet inspect`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_WANDB = Path(sys.executable).with_name("wandb")


def offline_runs(folder: Path) -> list[Path]:
    """The offline W&B runs in a job's folder, oldest first."""
    return sorted(folder.glob("wandb/offline-run-*"))


def summary_of(run: Path) -> dict[str, Any]:
    """State, exit code, config, tags and latest values of an offline run."""
    return json.loads(_inspect(run, "--summary"))


def records_of(run: Path, kind: str) -> list[dict[str, Any]]:
    """All records of a kind: "history", "metric", "artifact", ...; also of a killed run."""
    found = [json.loads(line) for line in _inspect(run).splitlines()]
    return [record[kind] for record in found if record["type"] == kind]


def history_of(run: Path) -> list[dict[str, Any]]:
    """The rows that were logged."""
    return [record["item"] for record in records_of(run, "history")]


def steps_of(runs: list[Path], curve: str, value: str = "loss") -> list[int]:
    """The steps of a curve that have a value, over all parts of a run, in the order of logging."""
    rows = [row for run in runs for row in history_of(run)]
    return [row[f"{curve}/step"] for row in rows if f"{curve}/{value}" in row]


def _inspect(run: Path, *options: str) -> str:
    command = [str(_WANDB), "leet", "inspect", "--json", *options, str(run)]
    # A killed run's file has no end, which is an error here, after everything was printed.
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
