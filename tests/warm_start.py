"""Starts `python -m clif_exp` without its imports: a process that has made them forks.

Most end-to-end tests are about what the program does, not about how a process starts, and importing
the libraries takes longer than the smallest run. Each command still is a process of its own, with
its own folder, environment, random state, signals and exit code.

    python tests/warm_start.py       # one JSON request a line on stdin, two JSON lines for each
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class RunningCommand:
    """A command under way.

    Attributes:
        pid: its process.
    """

    def __init__(
        self, arguments: list[str], pid: int, *, folder: Path, ended: Callable[[float], int]
    ) -> None:
        """Note how to wait for its end: `ended` takes seconds and returns the exit code."""
        self.pid = pid
        self._arguments, self._ended = arguments, ended
        self._files = (folder / ".stdout", folder / ".stderr")
        self._completed: subprocess.CompletedProcess[str] | None = None

    def said(self) -> str:
        """Return what it has printed so far."""
        return "".join(file.read_text() for file in self._files if file.is_file())

    def is_alive(self) -> bool:
        """Return whether it runs (Linux only)."""
        with contextlib.suppress(FileNotFoundError):
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            return state != "Z"
        return False

    def kill(self, how: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        os.kill(self.pid, how)

    def wait(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait for its end and return its code and output; the same again when asked again.

        Raises:
            subprocess.TimeoutExpired: after it was killed.
        """
        if self._completed is not None:
            return self._completed
        try:
            code = self._ended(timeout)
        except TimeoutError:
            self.kill()
            self._ended(60)
            raise subprocess.TimeoutExpired(self._arguments, timeout) from None
        texts = [file.read_text() for file in self._files]
        for file in self._files:
            file.unlink()
        self._completed = subprocess.CompletedProcess(self._arguments, code, *texts)
        return self._completed


class WarmStarter:
    """Runs commands one after another, each in a fork of a process that has imported everything."""

    def __init__(self) -> None:
        """Start importing; the first command waits for it."""
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def start(
        self, arguments: list[str], *, folder: Path, environment: dict[str, str]
    ) -> RunningCommand:
        """Start `python -m clif_exp ARGUMENTS` in `folder`; it must end before the next starts."""
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "files": [str(folder / ".stdout"), str(folder / ".stderr")],
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        pid = self._answer(600)  # the imports
        return RunningCommand(arguments, pid, folder=folder, ended=self._answer)

    def run(
        self, arguments: list[str], *, folder: Path, environment: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m clif_exp ARGUMENTS` in `folder`, as `subprocess.run` does.

        Raises:
            subprocess.TimeoutExpired: after the command was killed.
        """
        return self.start(arguments, folder=folder, environment=environment).wait(timeout)

    def stop(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=60)

    def _answer(self, timeout: float) -> int:
        stream = self._process.stdout
        assert stream is not None
        deadline = time.monotonic() + timeout
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            read = stream.read(1)
            assert read, "the process that starts commands has ended"
            line += read
        return int(line)


def _become(request: dict[str, Any]) -> None:
    """Turn this fork into the command; never returns."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for descriptor, file in zip((1, 2), request["files"], strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # As one that a shell starts in the foreground, however the tests were started.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["clif_exp", *request["arguments"]]
    code: Any = 1
    try:
        runpy.run_module("clif_exp", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    import atexit
    import threading

    for thread in threading.enumerate():  # as an interpreter that ends does
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import prints is no answer
    from clif_exp.sweeps.importing import import_everything

    import_everything()
    gc.collect()
    gc.freeze()  # no fork looks for garbage among what was imported, nor copies its memory for it
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        print(pid, file=answers, flush=True)
        status = os.waitpid(pid, 0)[1]
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
    os._exit(0)  # an interpreter with everything loaded takes seconds to end


if __name__ == "__main__":
    _serve()
