"""What launchers call for a job of a sweep, in whatever process and on whatever machine.

They pickle these functions by name: importing this module there registers the resolvers, too.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from clif_exp.artifacts.locks import process_lock
from clif_exp.artifacts.store import process_rank
from clif_exp.runs.directory import SUMMARY
from clif_exp.runs.entry import exit_codes, run
from clif_exp.sweeps.gpus import claimed_gpus, visible_gpus, wanted_gpus
from clif_exp.sweeps.jobs import JOB_LOCK

_GPU_LOCKS = ".gpus"  # in the sweep's folder


def run_here(composed: DictConfig) -> float | None:
    """Run a job in this process, on GPUs of its own."""
    return _run(composed, share_gpus=True)


def run_apart(composed: DictConfig) -> float | None:
    """Run a job in a fork of this process, which outlives whatever happens to the job."""
    return _fork(composed, share_gpus=True)


def run_scheduled(composed: DictConfig) -> float | None:
    """Run a job in a fork of this process, on the GPUs that a scheduler has given it."""
    return _fork(composed, share_gpus=False)


def _run(composed: DictConfig, *, share_gpus: bool) -> float | None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    with contextlib.ExitStack() as held:
        if process_rank() == 0:
            # An earlier call may have left it running: on a cluster, or about to end.
            held.enter_context(process_lock(folder / JOB_LOCK))
        wanted = wanted_gpus(composed) if share_gpus else 0
        if wanted:
            locks = folder.parent / _GPU_LOCKS
            held.enter_context(claimed_gpus(wanted, folder=locks, visible=visible_gpus()))
        return run(composed)


def _fork(composed: DictConfig, *, share_gpus: bool) -> float | None:
    from clif_exp.sweeps.importing import import_everything
    from clif_exp.sweeps.local import run_forked

    hydra_config = HydraConfig.get()
    folder, cwd = Path(hydra_config.runtime.output_dir), str(hydra_config.runtime.cwd)
    if not hydra_config.job.chdir and os.path.isdir(cwd):
        os.chdir(cwd)  # a cluster's workers start elsewhere; paths are relative to the sweep's
    import_everything()
    parent = os.getppid()

    def job() -> None:
        exit_codes.clear()
        _run(composed, share_gpus=share_gpus)
        sys.exit(next((code for code in exit_codes if code), 0))

    def follow() -> None:
        if os.getppid() != parent:  # the launcher's process was killed
            sys.exit(1)

    rank = process_rank()
    own = folder / f".rank_{rank}" if rank else folder
    run_forked([(job, own)], workers=1, tick=follow, ended=lambda _: None)
    return _objective(folder, composed.get("objective"))


def _objective(folder: Path, name: str | None) -> float | None:
    if not name:
        return None
    try:
        value = json.loads((folder / SUMMARY).read_text())["metrics"].get(name)
    except (OSError, ValueError, KeyError):
        value = None
    return math.nan if value is None else float(value)
