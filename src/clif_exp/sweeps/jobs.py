"""The jobs that a sweep's command line means, and where they write."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clif_exp.runs.directory import SUMMARY, quoted
from clif_exp.runs.entry import job_folder_name

JOB_LOCK = ".job.lock"  # in a job's folder, held while it runs
# Where something is computed, not what: a job with another store continues the same job.
_PLACES = {"artifacts.root", "num_workers"}


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        overrides: all that the command line states for it.
        varying: those in which the sweep's jobs may differ.
        folder: where it writes.
        private: more of what a launcher is told, which makes it no other job.
    """

    overrides: tuple[str, ...]
    varying: tuple[str, ...]
    folder: Path = field(default_factory=Path)
    private: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What differs, as `key=value` without groups in front of the keys."""
        return ",".join(short(override) for override in self.varying) or "the only job"

    @property
    def folder_name(self) -> str:
        """A folder name of its own: what differs, and a digest of all overrides."""
        identity = ",".join(sorted(o for o in self.overrides if key_of(o) not in _PLACES))
        return job_folder_name(",".join(self.varying), identity=identity)

    def placed(self, sweep: Path) -> Job:
        """Return the job with its folder in the sweep's."""
        return Job(self.overrides, self.varying, sweep / self.folder_name)

    def launched(self) -> list[str]:
        """Return its overrides for a launcher, which state its folder too."""
        return [
            *self.overrides,
            *self.private,
            f"hydra.sweep.dir='{quoted(self.folder.parent)}'",
            f"hydra.sweep.subdir='{quoted(self.folder.name)}'",
        ]

    def summary(self) -> dict[str, Any]:
        """Return its summary.json; empty if there is none or it cannot be read."""
        try:
            found = json.loads((self.folder / SUMMARY).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def expand(stated: Sequence[Sequence[str]]) -> list[Job]:
    """Return every combination of the overrides, each once; the last one varies fastest.

    Args:
        stated: for each key its overrides; several where it varies.
    """
    varying = {override for overrides in stated if len(overrides) > 1 for override in overrides}
    found = dict.fromkeys(itertools.product(*stated))
    return [Job(one, tuple(override for override in one if override in varying)) for one in found]


def sweep_name(names: Sequence[str], jobs: Sequence[Job]) -> str:
    """Return what a sweep's folder is called.

    Args:
        names: the jobs' `name`.
        jobs: in the same order.

    Returns:
        The jobs' name if they share one that somebody chose; else what they differ in.
    """
    if len(set(names)) == 1 and names[0] != "default":
        return names[0]
    keys = dict.fromkeys(
        key_of(override).split(".")[-1] for job in jobs for override in job.varying
    )
    return ",".join(keys)[:80] or names[0]


def short(override: str) -> str:
    """Return an override without the groups in front of its key: `rank=16`."""
    key, _, value = override.partition("=")
    return f"{key.lstrip('+').replace('/', '.').split('.')[-1]}={value}"


def as_override(value: Any) -> str:
    """Write a plain value in Hydra's override grammar."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{as_override(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(as_override, value)) + "]"
    if isinstance(value, str):
        return f"'{quoted(value)}'"
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def key_of(override: str) -> str:
    """Return an override's key with dots, whatever it does to it."""
    return override.partition("=")[0].lstrip("+~").split("@")[0].replace("/", ".")
