"""What a job of a sweep prints goes into its folder, so that many jobs do not talk at once."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

OUTPUT = "output.log"


@contextlib.contextmanager
def output_into(folder: Path | None) -> Iterator[None]:
    """Send what this process and its children print to `folder`/output.log, until the end.

    Args:
        folder: made if needed; None: to where it goes anyway. A file that cannot be opened (a
            full disk) changes nothing.
    """
    file = None
    with contextlib.suppress(OSError):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    if file is None:
        yield
        return
    _flush()
    before = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    for descriptor in before:
        os.dup2(file, descriptor)
    os.close(file)
    try:
        yield
    finally:
        _flush()
        for descriptor, kept in before.items():
            os.dup2(kept, descriptor)
            os.close(kept)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, *logging.getLogger().handlers):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
