"""A lock between processes and machines that is freed when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Seconds between two tries: long enough for a network file system, short next to any stage.
POLL_SECONDS = 0.5
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextlib.contextmanager
def process_lock(
    path: Path, *, on_wait: Callable[[str], None] | None = None, timeout: float | None = None
) -> Iterator[None]:
    """Hold `path` exclusively among all processes that see this file system.

    POSIX record locks (`lockf`), the only candidate of three that keeps every promise: the kernel
    (on NFS the server) drops them when the holder dies, however it dies; children that a holder
    forks (data-loader workers) do not inherit them; and there is no heartbeat to tune, as with a
    lock *file*. The package filelock uses `flock`, which forked workers inherit: a dead holder's
    workers would keep the lock. Record locks are held per process: threads of one process must not
    rely on them.

    Args:
        path: the lock's file; created, and removed on release.
        on_wait: called once with the holder's "host:pid" when the lock is taken.
        timeout: seconds to wait before TimeoutError; None waits without limit.

    Raises:
        ValueError: the file system has no locks.
        TimeoutError: the lock did not come free in time.
    """
    started, told = time.monotonic(), False
    while (descriptor := _try_lock(path)) is None:
        if on_wait is not None and not told:
            on_wait(_holder(path))
            told = True
        if timeout is not None and time.monotonic() - started > timeout:
            raise TimeoutError(f"{path}: still held by {_holder(path)} after {timeout:.0f} s")
        time.sleep(POLL_SECONDS if timeout is None else min(POLL_SECONDS, max(timeout, 0.01)))
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{socket.gethostname()}:{os.getpid()}".encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def is_free(path: Path) -> bool:
    """Tell whether no process holds `path` right now."""
    if not path.exists():
        return True
    descriptor = _try_lock(path)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def _try_lock(path: Path) -> int | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last holder removed the file on release: a lock on a removed file excludes no process.
        if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
            return descriptor
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            os.close(descriptor)
            raise ValueError(
                f"artifacts.root: the file system of {path.parent} has no locks ({error.strerror});"
                " choose a folder on a file system that has them (on NFS, mount it with locking)"
            ) from error
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except OSError:
        return "another process"
