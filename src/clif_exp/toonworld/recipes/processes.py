"""Maps a function over tasks in worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: int,
    uses_torch: bool = False,
) -> Iterator[Result]:
    """Call a function on every task; yields the results in the order of the tasks.

    Args:
        function: importable, so that workers find it.
        tasks: what it is called with; one task alone runs in this process, without a worker.
        workers: processes.
        uses_torch: start fresh workers with one torch thread each; torch must not run in a fork of
            a process whose threads are in use.
    """
    if len(tasks) == 1:
        yield function(tasks[0])
        return
    context = multiprocessing.get_context("spawn" if uses_torch else None)
    start = _one_thread if uses_torch else None
    with ProcessPoolExecutor(workers, mp_context=context, initializer=start) as pool:
        yield from pool.map(function, tasks)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
