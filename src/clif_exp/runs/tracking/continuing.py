"""Which W&B run a job continues: its folder's own, or that of a job of the same config that ended.

The ledger in `<run>/wandb/` holds the run's id. A sweep's job uses its folder again and finds it
there. Any other job gets a new folder; it takes the ledger of the newest job beside it whose config
is the same, that did not finish, and that is not running: the file moves, so only one job gets it.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from clif_exp.artifacts.locks import process_lock
from clif_exp.runs.directory import SUMMARY

LEDGER, LOCK = Path("wandb") / "clif_exp.json", Path("wandb") / "clif_exp.lock"
"""In a run's folder. The lock is held for as long as the job runs, however it ends."""

_CONFIG = Path(".hydra") / "config.yaml"


def take_over(folder: Path) -> None:
    """Move the ledger of an unfinished job of the same config into `folder`, if there is one.

    Args:
        folder: the job's; if it has a ledger, nothing is looked for.
    """
    if (folder / LEDGER).is_file() or not (folder / _CONFIG).is_file():
        return
    own = (folder / _CONFIG).read_bytes()
    for place in sorted(folder.parent.glob(f"*/{LEDGER}"), reverse=True):
        other = place.parents[1]
        if other == folder or _finished(other) or not _same(other / _CONFIG, own):
            continue
        (folder / LEDGER).parent.mkdir(parents=True, exist_ok=True)
        # TimeoutError: it still runs; FileNotFoundError: another job was faster.
        with (
            contextlib.suppress(TimeoutError, FileNotFoundError),
            process_lock(other / LOCK, timeout=0.0),
        ):
            os.replace(place, folder / LEDGER)
            return


def _same(file: Path, content: bytes) -> bool:
    try:
        return file.read_bytes() == content
    except OSError:
        return False


def _finished(folder: Path) -> bool:
    try:
        return json.loads((folder / SUMMARY).read_text())["status"] in ("finished", "pruned")
    except (OSError, ValueError, KeyError):
        return False
