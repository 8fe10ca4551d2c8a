"""Work that processes and machines share through its folder, without ranks or collectives."""

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
    """Try to claim one item of the work in `out`; yields whether this process got it.

    A claim is freed when its holder dies.

    Raises:
        FileNotFoundError: the folder is gone: another process has published its work.
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
    """Process unclaimed items until every item is done, by whichever process.

    Args:
        out: the work's folder; processes that call this with the same keys share the work.
        keys: names of the items, usable as file names.
        done: whether an item is finished; must become true by the last thing that `work` does.
        work: does one item; its result must not depend on the process.
        description: for the progress bar.
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
            # The rest is claimed by other processes; it is free again should they die.
            time.sleep(_POLL_SECONDS)


def forget(out: Path) -> None:
    """Remove the claims from a folder whose work is done."""
    shutil.rmtree(out / _LOCKS, ignore_errors=True)
