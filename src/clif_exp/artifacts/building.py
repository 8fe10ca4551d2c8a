"""Building one artifact: its files, then the record of what they came from and cost."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clif_exp.artifacts.integrity import RECORD, list_files
from clif_exp.artifacts.memory import peak_memory_mb, reset_peak_memory
from clif_exp.artifacts.provenance import git_commit, versions


def build_into(
    partial: Path, build: Callable[[Path], None], record: dict[str, Any]
) -> tuple[float, float]:
    """Fill a folder and write its artifact.json, the last file of all.

    Args:
        partial: the folder, which may hold an earlier, killed build's work.
        build: fills it.
        record: what artifact.json says beside times, versions and files.

    Returns:
        Seconds over all builds that worked on it, and this process's peak of memory, MiB.
    """
    partial.mkdir(parents=True, exist_ok=True)
    clock = partial / ".seconds"
    # A resumed build reports what all its runs took together.
    earlier = 0.0
    with contextlib.suppress(OSError, ValueError):  # there is none, or it was cut short
        earlier = float(clock.read_text())
    reset_peak_memory()
    started = time.perf_counter()
    try:
        build(partial)
    finally:
        seconds = earlier + time.perf_counter() - started
        with contextlib.suppress(OSError):
            clock.write_text(f"{seconds:.3f}")
    clock.unlink(missing_ok=True)
    peak = peak_memory_mb()
    full = record | {
        "finished": round(time.time(), 3),
        "seconds": round(seconds, 3),
        "peak_memory_mb": peak,
        "versions": versions(),
        "git_commit": git_commit(),
        "files": list_files(partial),
    }
    temporary = partial / f".{RECORD}"
    with open(temporary, "w") as file:
        json.dump(full, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, partial / RECORD)
    return round(seconds, 3), peak


def sync_folder(folder: Path) -> None:
    """Have a folder's entries written to the disk, where its file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
