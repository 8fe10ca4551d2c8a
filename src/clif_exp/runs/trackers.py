"""A run's trackers, W&B and TensorBoard; imported only if the config asks for them."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clif_exp.runs.settings import LoggerSettings
from clif_exp.secrets import without_secrets


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
        self.loggers: list[Any] = []

    def start(self, config: Mapping[str, Any]) -> None:
        """Open the trackers and send them the run's config, without secrets."""
        if self._settings and (settings := self._settings.wandb):
            os.environ.setdefault("WANDB_SILENT", "true")
            import wandb
            from lightning.pytorch.loggers import WandbLogger

            # A run per job: otherwise the jobs of a sweep would continue the first one's.
            experiment = wandb.init(
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


def _is_number(text: Any) -> bool:
    try:
        return math.isfinite(float(text))
    except (TypeError, ValueError):
        return False
