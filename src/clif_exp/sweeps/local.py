"""Runs a sweep's jobs on this machine, each in a fork of one process that has made the imports.

So a job that fails, runs out of memory or is killed takes no other with it, leaves nothing behind
in a process that goes on, and does not import the libraries again, which takes 10 s.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path

from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from clif_exp.artifacts.files import write_text
from clif_exp.runs.directory import SUMMARY, UNFINISHED
from clif_exp.runs.entry import exit_codes, wants_traceback
from clif_exp.runs.messages import unwritable_run

_POLL_SECONDS = 0.5
_TIME_IS_UP = (signal.SIGUSR1, signal.SIGUSR2)  # what clusters send before they kill
_GRACE_SECONDS = 30.0  # in which a job that is told to stop notes why in its summary.json


def launch(
    job_overrides: Iterable[Sequence[str]],
    *,
    first: int,
    config: DictConfig,
    context: HydraContext,
    task: TaskFunction,
    workers: int,
    tick: Callable[[], None],
    ended: Callable[[int], None],
) -> list[int]:
    """Run Hydra's jobs, as its launchers do.

    Args:
        job_overrides: of each job, its folder included; the next is asked for when it can start.
        first: number of the first job.
        config: of the sweep.
        context: of Hydra.
        task: what a job calls.
        workers: jobs at once.
        tick: called about twice a second.
        ended: called with the place of a job in their order when it has ended.

    Returns:
        Exit codes, in the order of the jobs.
    """
    setup_globals()

    def job(one: DictConfig) -> None:
        exit_codes.clear()
        try:
            run_job(
                hydra_context=context,
                task_function=task,
                config=one,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        except OSError as error:  # Hydra writes the config before the job begins: a full disk
            if wants_traceback():
                raise
            print(f"clif_exp: error: {unwritable_run(error)}", file=sys.stderr)
            sys.exit(1)
        sys.exit(next((code for code in exit_codes if code), 0))

    def tasks() -> Iterator[tuple[Callable[[], object], Path]]:
        for number, overrides in enumerate(job_overrides, start=first):
            with ctrl_c_afterwards():
                one = context.config_loader.load_sweep_config(config, list(overrides))
            with open_dict(one):
                one.hydra.job.id = one.hydra.job.num = number
            yield partial(job, one), Path(one.hydra.sweep.dir, one.hydra.sweep.subdir)

    return run_forked(tasks(), workers=workers, tick=tick, ended=ended)


@contextlib.contextmanager
def ctrl_c_afterwards() -> Iterator[None]:
    """Raise KeyboardInterrupt after a block instead of within it.

    Hydra turns it into an error of the config while it composes one (ConfigCompositionException).
    """
    before = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()  # elsewhere none can be set
    if not in_main or before is not signal.default_int_handler:  # a shell may have it ignored
        yield
        return
    asked = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked.is_set():
        raise KeyboardInterrupt


def run_forked(
    tasks: Iterable[tuple[Callable[[], object], Path]],
    *,
    workers: int,
    tick: Callable[[], None],
    ended: Callable[[int], None],
) -> list[int]:
    """Run tasks, each in a fork of this process.

    Args:
        tasks: what to run, and the folder of its summary.json, in which a killed one's end is
            noted. The next is asked for when it can start.
        workers: how many run at once; they share the processor's cores.
        tick: called about twice a second.
        ended: called with a task's place in their order when it has ended.

    Returns:
        Exit codes, in the order of the tasks; negative: the signal that killed it.
    """
    context = multiprocessing.get_context("fork")
    threads = None if workers == 1 else max(1, cores() // workers)
    codes: dict[int, int] = {}
    folders: list[Path] = []
    running: dict[int, ForkProcess] = {}
    waiting = iter(tasks)
    try:
        while True:
            while len(running) < workers and (following := next(waiting, None)) is not None:
                task, folder = following
                process = context.Process(
                    target=_become,
                    args=(task,),
                    kwargs={"threads": threads, "parent": os.getpid()},
                )
                process.start()
                running[len(folders)] = process
                folders.append(folder)
            if not running:
                break
            wait([process.sentinel for process in running.values()], timeout=_POLL_SECONDS)
            for index, process in list(running.items()):
                if not process.is_alive():
                    process.join()
                    codes[index] = process.exitcode or 0
                    _note_signal(folders[index], codes[index])
                    del running[index]
                    ended(index)
            tick()
    finally:
        _stop(list(running.values()))
    return [codes[index] for index in range(len(folders))]


def cores() -> int:
    """Return how many of the processor's cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _become(task: Callable[[], object], *, threads: int | None, parent: int) -> None:
    """Be a job's process: run the task, and end when the process that forked it has ended."""
    gc.freeze()  # a collection would touch, and so copy, every object that the imports have made
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the sweep, which ends its jobs
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a launcher's process may handle it
    for number in _TIME_IS_UP:
        signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    if threads is not None and "OMP_NUM_THREADS" not in os.environ:
        import torch

        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
    task()


def _follow(parent: int) -> None:
    """Stop this process when its parent has ended, as SIGKILL would leave it behind."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def _stop(processes: Sequence[ForkProcess]) -> None:
    """End what still runs; the same command resumes it."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _note_signal(folder: Path, code: int) -> None:
    """Say in a killed job's summary.json what has ended it, which it could not do itself."""
    file = folder / SUMMARY
    if code >= 0 or not file.is_file():
        return
    summary = json.loads(file.read_text())
    if summary["error"] != UNFINISHED:
        return
    name = signal.Signals(-code).name
    cause = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    summary["error"] = f"killed by {name}{cause}; the same command resumes it"
    write_text(file, json.dumps(summary, indent=2) + "\n")
