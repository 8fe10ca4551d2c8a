"""Searches over a task that costs nothing, through everything else that a search consists of."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from clif_exp.artifacts.files import write_text
from clif_exp.runs.directory import UNFINISHED
from clif_exp.runs.studies import open_storage

NAME = "planted"
OBJECTIVE = "multi/intact"
SPACE = "diffusion.learning_rate=tag(log,interval(1e-5,1e-1))"


def task(config: DictConfig) -> None:
    """End as a job does: two regions of the rate are good, the one at 1e-2 is better.

    With diffusion.rank=1 it has no value, with 2 it fails, with 3 the system kills it, and with 5
    it takes four times as long.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    end = partial(write_end, folder)
    end("killed", error=UNFINISHED)
    note(folder, "started.txt")
    rate, rank = config.diffusion.learning_rate, config.diffusion.rank
    time.sleep(float(os.environ["TASK_SECONDS"]) * (4 if rank == 5 else 1))
    if rank == 2:
        end("failed", error="planted")
        sys.exit(1)
    if rank == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    place = math.log10(rate)
    value = max(0.5 * math.exp(-((place + 4) ** 2)), math.exp(-4 * (place + 2) ** 2))
    note(folder, "finished.txt")
    end("finished", metrics={OBJECTIVE: None if rank == 1 else value})


def write_end(folder: Path, status: str, *, error: str | None = None, metrics: Any = None) -> None:
    """Write the part of summary.json that a search reads."""
    summary = {"status": status, "error": error, "metrics": metrics or {}, "stages": {}}
    write_text(folder / "summary.json", json.dumps(summary))


def note(folder: Path, name: str) -> None:
    """Add a line with the job's folder to a file beside it."""
    with open(folder.parent / name, "a") as file:
        file.write(f"{folder.name}\n")


class Search:
    """One command of a search, in a fork of this process, which has made the imports."""

    def __init__(self, folder: Path, *arguments: str, store: Path, seconds: float = 0.0) -> None:
        """Start it.

        Args:
            folder: to run it in.
            arguments: more of the command line.
            store: the artifact store.
            seconds: that a task takes.
        """
        from clif_exp.sweeps.importing import import_everything

        import_everything()
        command = [
            *("-m", "hydra/sweeper=optuna", "debug=fast", f"name={NAME}"),
            *(f"objective={OBJECTIVE}", f"artifacts.root={store}", *arguments),
        ]
        self.output = folder / f"output-{time.monotonic_ns()}.txt"
        self.process = multiprocessing.get_context("fork").Process(
            target=_become, args=(folder, command, self.output, seconds)
        )
        self.process.start()

    def wait(self, timeout: float = 240) -> int:
        """Wait for its end; return its exit code."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, self.output.read_text()
        return self.process.exitcode

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.join()


def _become(folder: Path, command: Sequence[str], output: Path, seconds: float) -> None:
    import hydra

    from clif_exp.__main__ import main
    from clif_exp.runs import entry
    from clif_exp.runs.messages import config_folder

    os.chdir(folder)
    os.environ["TASK_SECONDS"] = str(seconds)
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # in place of pytest's
    sys.argv = ["clif_exp", *command]
    entry.exit_codes.clear()
    decorated = hydra.main(
        version_base="1.3", config_path=str(config_folder()), config_name="config"
    )
    main.__globals__["_run"] = decorated(task)  # this fork's only
    main()
    sys.stdout.flush()


def study_of(folder: Path, storage: str | None = None) -> Any:
    """Return the study of a search that ran in a folder."""
    location = storage or str(folder / "multirun" / NAME / "study.journal")
    return optuna.load_study(study_name=NAME, storage=open_storage(location))


def lines(folder: Path, name: str) -> list[str]:
    """Return what the tasks noted."""
    file = folder / "multirun" / NAME / name
    return file.read_text().splitlines() if file.is_file() else []
