"""Work shared between processes and machines through the folder it is done in: no ranks are
counted, nobody waits in a collective.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from clif_exp.artifacts.locks import process_lock
from clif_exp.artifacts.progress import track

_LOCKS, _POLL_SECONDS = ".sharing", 0.2


@contextlib.contextmanager
def claim(out: Path, key: str) -> Iterator[bool]:
    """Try to claim one item of the work in `out`; yields whether nobody else has it. Its holder's
    death frees it.

    Raises:
        FileNotFoundError: the folder is gone: its work was finished and published by another
            process.
    """
    if not out.is_dir():
        raise FileNotFoundError(out)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(process_lock(out / _LOCKS / f"{key}.lock", timeout=0.0))
        except TimeoutError:
            yield False
        else:
            yield True


def share(
    out: Path,
    keys: Iterable[str],
    *,
    done: Callable[[str], bool],
    work: Callable[[str], None],
    description: str = "working",
) -> None:
    """Do what nobody else does, until all is done, whoever did it.

    Args:
        out: the folder in which the work is done; other processes that call this with the same keys
            share it.
        keys: names of the items, fit for file names.
        done: whether an item is finished; must become true by the last thing that `work` does.
        work: does one item; its result must not depend on who does it.
        description: what is going on, for the progress bar.
    """
    open_keys = list(keys)
    while open_keys := [key for key in open_keys if not done(key)]:
        worked = False
        for key in track(open_keys, description):
            with claim(out, key) as mine:
                if mine and not done(key):
                    work(key)
                    worked = True
        if not worked:
            time.sleep(
                _POLL_SECONDS
            )  # the rest is in other hands; should they let go, it is taken up


def forget(out: Path) -> None:
    """Remove what sharing left in a folder whose work is done."""
    shutil.rmtree(out / _LOCKS, ignore_errors=True)
