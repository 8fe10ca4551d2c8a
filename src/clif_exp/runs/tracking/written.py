"""What an offline W&B run's file really holds, which after a kill is less than was sent.

W&B's process writes every 32 KiB or 15 s, and dies with the job.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_SECONDS = 60  # a run of 100,000 rows is read in far less
_HEADER = 7  # bytes of a run's file before its first record


def last_steps(run: Path) -> dict[str, int] | None:
    """Return the last step of each curve in a run's file, as `ledger.Ledger` names them.

    Args:
        run: the folder `offline-run-...`.

    Returns:
        None if the file cannot be read; nothing if a kill came before anything was written.
    """
    files = list(run.glob("*.wandb"))
    if files and all(file.stat().st_size <= _HEADER for file in files):
        return {}
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    try:
        # The exit code is not 0 for the file of a killed run, which has no end.
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        ).stdout
        return _last_steps(_rows(said.splitlines()))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def _rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield what was logged, row by row.

    Raises:
        ValueError: that is no run's file.
    """
    read = False
    for line in lines:
        read, record = True, json.loads(line)
        if record["type"] == "history":
            yield record["history"]["item"]
    if not read:
        raise ValueError("nothing was read")


def _last_steps(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        for key, step in row.items():
            curve = key.removesuffix("/step")
            if curve == key:
                continue
            # A row is of numbers, or of an image.
            images = [name for name in row if name.endswith("._type")]
            name = images[0].removesuffix("._type") if images else curve
            found[name] = max(int(step), found.get(name, 0))
    return found
