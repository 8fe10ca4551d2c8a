"""Where a run's curves and numbers go besides its own folder: W&B and TensorBoard, imported only when asked for."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Trackers:
    """The trackers of one run; without any, every call does nothing.

    Curves are sent once per training stage, from its metrics.csv: so a reused or resumed stage shows the same whole curve
    as an undisturbed one.
    """

    def __init__(self, *, wandb: Mapping[str, Any] | None, tensorboard: Mapping[str, Any] | None, folder: Path, name: str) -> None:
        """Remember the settings; nothing is opened before `start`.

        Args:
            wandb: mode, project, entity, group, tags; None for no W&B.
            tensorboard: folder (below the run's); None for no TensorBoard.
            folder: the run's folder.
            name: the run's name in the tracker.
        """
        self._wandb_settings, self._tensorboard_settings = wandb, tensorboard
        self._folder, self._name = folder, name
        self._wandb: Any = None
        self._tensorboard: Any = None
        self._offset = 0

    def start(self, config: Mapping[str, Any]) -> None:
        """Open the trackers and tell them the run's config."""
        if self._wandb_settings:
            # Nothing about the machine beyond what a run needs; errors go to the run's own log.
            os.environ.setdefault("WANDB_SILENT", "true")
            import wandb

            settings = self._wandb_settings
            self._wandb = wandb.init(
                mode=settings["mode"], project=settings["project"], entity=settings["entity"], group=settings["group"],
                tags=list(settings["tags"]), name=self._name, dir=str(self._folder), config=without_secrets(config),
                reinit="finish_previous",
            )  # fmt: skip
        if self._tensorboard_settings:
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(self._folder / self._tensorboard_settings["folder"]))

    def log_curve(self, stage: str, file: Path) -> None:
        """Send a training stage's metrics.csv as `<stage>/<column>` over its steps."""
        if not (self._wandb or self._tensorboard) or not file.is_file():
            return
        step = 0
        with open(file, newline="") as opened:
            for row in csv.DictReader(opened):
                step = int(float(row.pop("step")))
                numbers = {f"{stage}/{name}": float(text) for name, text in row.items() if _is_number(text)}
                if self._wandb:
                    self._wandb.log(numbers | {f"{stage}/step": step}, step=self._offset + step)
                if self._tensorboard:
                    for name, value in numbers.items():
                        self._tensorboard.add_scalar(name, value, step)
        self._offset += step

    def log_result(self, metrics: Mapping[str, Any], *, pictures: Mapping[str, Path]) -> None:
        """Send the final metrics and a few pictures."""
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float) and math.isfinite(value)}
        existing = {name: path for name, path in pictures.items() if path.is_file()}
        if self._wandb:
            import wandb

            self._wandb.summary.update(numbers)
            table = wandb.Table(columns=["metric", "value"], data=[[name, value] for name, value in numbers.items()])
            self._wandb.log({"metrics": table} | {name: wandb.Image(str(path)) for name, path in existing.items()})
        if self._tensorboard:
            import numpy as np
            from PIL import Image

            for name, value in numbers.items():
                self._tensorboard.add_scalar(name, value)
            for name, path in existing.items():
                self._tensorboard.add_image(name, np.asarray(Image.open(path).convert("RGB")), dataformats="HWC")

    def finish(self, exit_code: int) -> None:
        """Close the trackers; without it the runs of a sweep's jobs would merge."""
        if self._wandb:
            self._wandb.finish(exit_code=exit_code)
            self._wandb = None
        if self._tensorboard:
            self._tensorboard.close()
            self._tensorboard = None


def without_secrets(config: Any) -> Any:
    """Copy a config without what must not leave the machine: values under keys that name a key, token or password."""
    if isinstance(config, Mapping):
        return {key: "<hidden>" if _is_secret(str(key)) and value else without_secrets(value) for key, value in config.items()}
    return [without_secrets(value) for value in config] if isinstance(config, list | tuple) else config


def _is_secret(key: str) -> bool:
    return key.lower() in ("token", "password", "secret", "credentials") or key.lower().endswith(
        ("api_key", "_token", "_secret", "_password")
    )


def _is_number(text: Any) -> bool:
    try:
        return math.isfinite(float(text))
    except (TypeError, ValueError):
        return False
