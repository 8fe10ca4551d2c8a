"""What a tracker calls a run: its name, group, job type and tags."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from clif_exp.runs.composing import given_overrides
from clif_exp.runs.config import Config
from clif_exp.runs.directory import sweep_of

# Overrides that change no result say nothing about a run.
_INDIFFERENT = re.compile(
    r"[+~]*(logger|callbacks|paths|hydra|artifacts|num_workers|name|experiment|pruning)\b"
)
_LONGEST = 120  # W&B takes 128 characters


@dataclass(frozen=True)
class Labels:
    """A run's labels.

    Attributes:
        name: what differs from other runs.
        group: the runs that it belongs to: its sweep's, or those of its experiment.
        job_type: the method.
        tags: more that runs are filtered by.
    """

    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]


def labels_of(config: Config, *, folder: Path) -> Labels:
    """Return the labels of a job.

    Args:
        config: the job's.
        folder: the job's; a sweep names it by the overrides that vary, and a hash.
    """
    if (sweep := sweep_of(folder)) is not None:
        name, group = re.sub(r"-[0-9a-f]{8}$", "", folder.name), sweep.name
    else:
        known = HydraConfig.initialized()
        overrides = given_overrides(HydraConfig.get())["task"] if known else []
        name, group = " ".join([config.name, *telling(overrides)]), config.name
    of_config = (config.method.name, config.model.family, config.dataset.name)
    return Labels(name[:_LONGEST], group, config.method.name, tuple(dict.fromkeys(of_config)))


def telling(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that tell runs apart, without what stands before their last key."""
    return [
        re.sub(r"^[+]*(?:[\w@]+[./])*(?=[\w@]+=)", "", override)
        for override in overrides
        if not _INDIFFERENT.match(override)
    ]
