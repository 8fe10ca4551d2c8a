"""Starts, monitors and stops a run's ranks on one machine, from first stage to last.

Lightning would start the other ranks when training begins and stop them when it ends. Here they run
this process's command line from the start, so that they share curation, sampling and evaluation
too. Under torchrun or SLURM, which start the ranks themselves, nothing is launched.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from clif_exp.errors import OUT_OF_TIME, RankFailed
from clif_exp.runs.directory import SUMMARY, quoted, relative
from clif_exp.training.settings import TrainerSettings

PARENT = "CLIF_EXPPARENT"  # id of the process that started this one and ends it by ending
_POLL_SECONDS, _GRACE_SECONDS, _END_SECONDS = 0.5, 20.0, 120.0


def are_launched() -> bool:
    """Return whether this process is already a rank of several, or started by a launcher."""
    return (
        "RANK" in os.environ
        or "LOCAL_RANK" in os.environ
        or int(os.environ.get("SLURM_NTASKS", "1")) > 1
    )


def follow_parent() -> None:
    """End this process as soon as the one that started it has ended, for whatever reason."""
    parent = os.environ.get(PARENT)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def all_ranks(devices: int, *, folder: Path) -> Iterator[None]:
    """Run the body as this machine's first rank; the others run the same command line.

    Args:
        devices: ranks on this machine; with one, or under a launcher, none is started.
        folder: the run's folder; rank N's output is in its `.rank_N/output.log`.

    Raises:
        RankFailed: another rank failed; in place of its consequence in this rank: a broken
            connection or a SIGTERM.
    """
    if devices < 2 or are_launched():
        yield
        return
    first = int(os.environ.get("NODE_RANK", "0")) * devices
    shared = _addresses()
    own = {"LOCAL_RANK": "0", "RANK": str(first), **shared}
    others = _Others(folder)
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        for local in range(1, devices):
            others.start(local, rank=first + local, environment=shared)
        threading.Thread(target=others.watch, daemon=True).start()
        yield
        others.wait()
    except BaseException as error:
        failure = others.failure()
        # The failed rank's error says more than the broken connection of a rank that waited for it.
        if failure and isinstance(error, (SystemExit, RuntimeError)):
            raise RankFailed(failure) from error
        raise
    finally:
        others.stop()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _addresses() -> dict[str, str]:
    """Return how ranks find each other, as far as the environment does not say it already."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    defaults = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    return {name: os.environ.get(name, value) for name, value in defaults.items()}


class _Others:
    """The other ranks on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes, self.ending = folder, dict[int, subprocess.Popen](), False

    def start(self, local: int, *, rank: int, environment: dict[str, str]) -> None:
        """Start a rank on this command line, in the same run folder."""
        own = self.folder / f".rank_{rank}"
        own.mkdir(parents=True, exist_ok=True)
        places = {
            "hydra.run.dir": self.folder,
            "hydra.job_logging.handlers.file.filename": own / "run.log",
        }
        # A folder's name may hold '=' and ',', which Hydra's grammar would read.
        stated = [f"{key}='{quoted(path)}'" for key, path in places.items()]
        command = [
            sys.executable,
            "-m",
            "clif_exp",
            *sys.argv[1:],
            *stated,
            "hydra.output_subdir=null",
        ]
        ranks = {"LOCAL_RANK": str(local), "RANK": str(rank), PARENT: str(os.getpid())}
        with open(own / "output.log", "w") as log:
            self.processes[rank] = subprocess.Popen(
                command,
                env=os.environ | environment | ranks,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def watch(self) -> None:
        """Stop this process some time after another rank failed, for which it may wait forever."""
        while not self.ending and self.failure() is None:
            time.sleep(_POLL_SECONDS)
        deadline = time.monotonic() + _GRACE_SECONDS
        while not self.ending and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if not self.ending:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_GRACE_SECONDS)
        if not self.ending:  # inside a library's collective, which handles no signals
            print(f"clif_exp: error: {self.failure()}", file=sys.stderr, flush=True)
            os._exit(1)

    def failure(self) -> str | None:
        """Return what the first failed rank reported, or None."""
        for rank, process in self.processes.items():
            code = process.poll()
            if code and code != OUT_OF_TIME:  # then all ranks stop at once
                own = self.folder / f".rank_{rank}"
                said = (
                    f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                )
                if code > 0:
                    with contextlib.suppress(OSError, ValueError):
                        said += f": {json.loads((own / SUMMARY).read_text())['error']}"
                return (
                    f"rank {rank} {said}; its output is in {relative(own / 'output.log')}. The same"
                    " command resumes the run."
                )
        return None

    def wait(self) -> None:
        """Wait until all have finished their current work, at most _END_SECONDS."""
        deadline = time.monotonic() + _END_SECONDS
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))

    def stop(self) -> None:
        """Terminate the ranks that still run; kill those that do not react."""
        self.ending = True
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def use_own_device(trainer: TrainerSettings) -> None:
    """Make "cuda" mean this rank's own GPU, outside the training loops too."""
    local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID"))
    if local is not None and trainer.device == "cuda":
        import torch

        torch.cuda.set_device(int(local))
