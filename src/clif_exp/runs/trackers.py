"""A run's trackers, W&B and TensorBoard; imported only if the config asks for them."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clif_exp.artifacts.locks import is_free, process_lock
from clif_exp.runs.settings import LoggerSettings
from clif_exp.secrets import without_secrets

_RUNNING = ".running"


class Trackers:
    """The trackers of one run, as Lightning loggers; without any, every call does nothing.

    Curves are sent once per training stage, from its metrics.csv: so a reused or resumed stage
    shows the same complete curve as an undisturbed one.
    """

    def __init__(self, settings: LoggerSettings | None, *, folder: Path, name: str) -> None:
        """Remember what to open; nothing is opened before `start`.

        Args:
            settings: which trackers; None opens none.
            folder: the run's folder.
            name: the run's name in the tracker.
        """
        self._settings, self._folder, self._name = settings, folder, name
        self._offset = 0
        self._held = contextlib.ExitStack()
        self.loggers: list[Any] = []

    def start(self, config: Mapping[str, Any]) -> None:
        """Open the trackers and send them the run's config, without secrets."""
        if self._settings and (settings := self._settings.wandb):
            os.environ.setdefault("WANDB_SILENT", "true")
            import wandb
            from lightning.pytorch.loggers import WandbLogger

            # A run per job: otherwise the jobs of a sweep would continue the first one's. Only a
            # job that goes on after a kill continues its own, which W&B would show as running.
            earlier = killed_run(self._folder)
            identity = earlier or uuid.uuid4().hex[:8]
            lock = self._folder / "wandb" / f"{identity}{_RUNNING}"
            self._held.enter_context(process_lock(lock, timeout=0.0))
            experiment = wandb.init(
                id=identity,
                resume="allow" if earlier and settings.mode == "online" else None,
                mode=settings.mode,
                project=settings.project,
                entity=settings.entity,
                group=settings.group,
                tags=list(settings.tags),
                name=self._name,
                dir=str(self._folder),
                config=without_secrets(config),
                reinit="finish_previous",
            )
            self.loggers.append(WandbLogger(experiment=experiment))
        if self._settings and (board := self._settings.tensorboard):
            from lightning.pytorch.loggers import TensorBoardLogger

            self.loggers.append(TensorBoardLogger(str(self._folder), name=board.folder, version=""))

    def log_curve(self, stage: str, file: Path) -> None:
        """Send a training stage's metrics.csv as `<stage>/<column>` over its steps."""
        if not self.loggers or not file.is_file():
            return
        step = 0
        with open(file, newline="") as opened:
            for row in csv.DictReader(opened):
                step = int(float(row.pop("step")))
                numbers = {
                    f"{stage}/{name}": float(text) for name, text in row.items() if _is_number(text)
                }
                for logger in self.loggers:
                    # W&B has one step counter per run: stage 2 continues after stage 1.
                    logger.log_metrics(
                        numbers | {f"{stage}/step": float(step)}, step=self._offset + step
                    )
        self._offset += step

    def finish(self, exit_code: int) -> None:
        """Close the trackers; the exit code tells them whether the run succeeded."""
        for logger in self.loggers:
            if type(logger).__name__ == "WandbLogger":
                logger.experiment.finish(exit_code=exit_code)
            else:
                logger.finalize("success" if exit_code == 0 else "failed")
        self.loggers = []
        self._held.close()


def killed_run(folder: Path) -> str | None:
    """Return the id of the W&B run that a job left when it was killed (SIGKILL, power), or None.

    It is looked for in the job's own folder, which a sweep uses again, and beside it, in folders of
    the same config. A lock file of the run's id stays where its holder could not end the run.
    Offline, `wandb sync` sends both halves as one run. A job that is never started again stays
    "running" offline; online W&B itself calls it crashed some minutes later.

    Args:
        folder: the run's folder.
    """
    config = Path(".hydra") / "config.yaml"
    own = (folder / config).read_bytes() if (folder / config).is_file() else b""
    beside = [
        other.parents[1]
        for other in sorted(folder.parent.glob(f"*/{config}"), reverse=True)
        if other.parents[1] != folder and own and other.read_bytes() == own
    ]
    for place in (folder, *beside):
        for lock in place.glob(f"wandb/*{_RUNNING}"):
            if is_free(lock):
                with contextlib.suppress(FileNotFoundError):  # another job has taken it over
                    lock.unlink()
                    return lock.name.removesuffix(_RUNNING)
    return None


def _is_number(text: Any) -> bool:
    try:
        return math.isfinite(float(text))
    except (TypeError, ValueError):
        return False
