"""All ranks of a run on one machine, from its first stage to its last.

Lightning would start the others when training begins and let them go when it ends. Here they repeat
this process's command line at once, so that they take their share of curation, sampling and judging
too. Ranks that torchrun or SLURM has started are left alone: there nothing is launched.
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

from clif_exp.errors import RankFailed
from clif_exp.runs.directory import relative
from clif_exp.training.settings import TrainerSettings

_PARENT = "CLIF_EXP_RANK_0"  # process id of the rank that has started this one
_POLL_SECONDS, _GRACE_SECONDS, _END_SECONDS = 0.5, 20.0, 120.0
OUT_OF_TIME = 75  # exit code of a run that `trainer.max_time` has stopped; all ranks stop at once


def are_launched() -> bool:
    """Tell whether this process is already one of several, or one of a launcher's."""
    return (
        "RANK" in os.environ
        or "LOCAL_RANK" in os.environ
        or int(os.environ.get("SLURM_NTASKS", "1")) > 1
    )


def follow_rank_0() -> None:
    """End this process when the rank that has started it is gone, however it went."""
    parent = os.environ.get(_PARENT)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def all_ranks(devices: int, *, folder: Path) -> Iterator[None]:
    """Run the body as rank 0 (of this machine) of `devices` ranks; the others run the same command
    line beside it.

    Args:
        devices: ranks on this machine; with one, or under a launcher, nothing happens.
        folder: the run's folder; what a further rank prints is in `.rank_N/output.log` there.

    Raises:
        RankFailed: in place of what this made of rank 0: a broken connection, or waiting for ever.
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
        # What the user can mend says more than the broken connection of a rank that waited for the
        # one that failed.
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
    """How ranks find each other, where the user (several machines) has not said it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    defaults = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    return {name: os.environ.get(name, value) for name, value in defaults.items()}


class _Others:
    """The further ranks on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes, self.ending = folder, dict[int, subprocess.Popen](), False

    def start(self, local: int, *, rank: int, environment: dict[str, str]) -> None:
        own = self.folder / f".rank_{rank}"
        own.mkdir(parents=True, exist_ok=True)
        places = {
            "hydra.run.dir": self.folder,
            "hydra.job_logging.handlers.file.filename": own / "run.log",
        }
        # A folder's name may hold '=' and ',', which Hydra's grammar would read.
        quoted = [f"{key}='{_escaped(path)}'" for key, path in places.items()]
        command = [
            sys.executable,
            "-m",
            "clif_exp",
            *sys.argv[1:],
            *quoted,
            "hydra.output_subdir=null",
        ]
        ranks = {"LOCAL_RANK": str(local), "RANK": str(rank), _PARENT: str(os.getpid())}
        with open(own / "output.log", "w") as log:
            self.processes[rank] = subprocess.Popen(
                command,
                env=os.environ | environment | ranks,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def watch(self) -> None:
        """Stop this process if another rank fails and it does not end by itself: it may wait for
        that rank for ever.
        """
        while not self.ending and self.failure() is None:
            time.sleep(_POLL_SECONDS)
        deadline = time.monotonic() + _GRACE_SECONDS
        while not self.ending and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if not self.ending:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_GRACE_SECONDS)
        if not self.ending:  # deep in a library's collective, where no signal is heard
            print(f"clif_exp: error: {self.failure()}", file=sys.stderr, flush=True)
            os._exit(1)

    def failure(self) -> str | None:
        """What the first failed rank said, or None."""
        for rank, process in self.processes.items():
            code = process.poll()
            if code and code != OUT_OF_TIME:
                own = self.folder / f".rank_{rank}"
                said = (
                    f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                )
                if code > 0:
                    with contextlib.suppress(OSError, ValueError):
                        said += f": {json.loads((own / 'summary.json').read_text())['error']}"
                return (
                    f"rank {rank} {said}; its output is in {relative(own / 'output.log')}. The same"
                    " command goes on."
                )
        return None

    def wait(self) -> None:
        """Wait until all have ended: at most for the rest of what they had in hand."""
        deadline = time.monotonic() + _END_SECONDS
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))

    def stop(self) -> None:
        self.ending = True
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace("'", "\\'")


def use_own_device(trainer: TrainerSettings) -> None:
    """Make "cuda" mean this rank's own GPU, outside the training loops too."""
    local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID"))
    if local is not None and trainer.device == "cuda":
        import torch

        torch.cuda.set_device(int(local))
