"""Shares out the GPUs of a machine to the jobs of a sweep that run on it at the same time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clif_exp.artifacts.locks import POLL_SECONDS, process_lock
from clif_exp.base_models.devices import count_gpus

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """Return how CUDA_VISIBLE_DEVICES calls the GPUs that this process may use."""
    stated = os.environ.get(VISIBLE)
    if stated is not None:
        names = [name.strip() for name in stated.split(",")]
        usable = names[: names.index("-1")] if "-1" in names else names  # as CUDA reads it
        return [name for name in usable if name]
    # In a process of its own: CUDA reads the variable once, before a job has claimed its GPUs.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return [str(number) for number in range(pool.submit(count_gpus).result())]


def wanted_gpus(composed: DictConfig) -> int:
    """Return how many GPUs a job's config asks for; 0 if what it states makes no sense."""
    try:
        accelerator = OmegaConf.select(composed, "trainer.accelerator")
        devices = OmegaConf.select(composed, "trainer.devices")
    except OmegaConfBaseException:  # the job itself says what is wrong
        return 0
    return devices if accelerator in ("gpu", "cuda", "auto") and isinstance(devices, int) else 0


def workers_for(composed: DictConfig) -> int:
    """Return how many jobs run at once: as many as the GPUs serve; 1 without GPUs.

    Args:
        composed: of the sweep.
    """
    wanted = wanted_gpus(composed)
    return max(1, len(visible_gpus()) // wanted) if wanted > 0 else 1


@contextlib.contextmanager
def claimed_gpus(number: int, *, folder: Path, visible: Sequence[str]) -> Iterator[None]:
    """Be the only one in `folder` to use some GPUs: CUDA_VISIBLE_DEVICES names these alone.

    Waits until there are enough. The kernel frees them when this process ends, however it ends.

    Args:
        number: how many; with more than there are, nothing is claimed, as with none.
        folder: of the lock files; all who share the GPUs use it.
        visible: from `visible_gpus`.
    """
    if not 0 < number <= len(visible):
        yield
        return
    here = folder / socket.gethostname()
    before = os.environ.get(VISIBLE)
    with contextlib.ExitStack() as held:
        claimed: list[str] = []
        # One job at a time collects: two that hold half of what they need would wait forever.
        with process_lock(here / "next.lock"):
            while len(claimed) < number:
                for name in [one for one in visible if one not in claimed]:
                    with contextlib.suppress(TimeoutError):
                        held.enter_context(process_lock(here / _file_of(name), timeout=0))
                        claimed.append(name)
                    if len(claimed) == number:
                        break
                if len(claimed) < number:
                    time.sleep(POLL_SECONDS)
        os.environ[VISIBLE] = ",".join(claimed)
        try:
            yield
        finally:
            if before is None:
                del os.environ[VISIBLE]
            else:
                os.environ[VISIBLE] = before


def _file_of(name: str) -> str:
    return re.sub(r"[^\w-]", "_", name) + ".lock"  # a MIG device's name holds slashes
