"""Lightning callbacks of both training stages: metrics, checkpoints, the time budget."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar

from clif_exp.training.live import LiveMetrics
from clif_exp.training.steps import ends_step

EXPECTED_WARNINGS = (
    r"Checkpoint directory .* exists and is not empty",  # when a run resumes
    r"Found \d+ module\(s\) in eval mode",  # the frozen base models
    # It is resumable: a batch is a function of the step.
    r".*ended before the epoch ended and your dataloader is not resumable",
    r".*does not have many workers",  # building a batch costs nothing
    r".*isinstance\(treespec, LeafSpec\)",
)


class MetricsFile(Callback):
    """Writes one row per step to metrics.csv; on resume drops rows that will be computed again.

    The trainer's loggers get every row too, with all its metrics, and after a resume those that
    were kept. A module's attribute `first_metrics`, if it has one, becomes the row of step 0.

    Args:
        path: metrics.csv.
        columns: after `step`.
        start: the step to resume from.
        live: what measures a step's time, which ends and begins with the row.
    """

    def __init__(self, path: Path, columns: Sequence[str], start: int, live: LiveMetrics) -> None:
        self.path, self.columns, self.live = path, ["step", *columns], live
        kept: list[dict[str, str]] = []
        if start and path.is_file():
            with path.open(newline="") as stream:
                # A truncated row lacks cells; rows up to `start` are complete.
                kept = [
                    row
                    for row in csv.DictReader(stream)
                    if None not in row.values() and int(row["step"]) <= start
                ]
        self.rows: list[dict[str, Any]] = [*kept]
        self.parts: list[Mapping[str, float]] = []
        self.stream: TextIO | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.stream = self.path.open("w", newline="")
            self.writer = csv.DictWriter(self.stream, self.columns, extrasaction="ignore")
            self.writer.writeheader()
            first = getattr(pl_module, "first_metrics", None)
            rows = [{"step": 0, **first}] if first and not self.rows else self.rows
            self.writer.writerows(rows)
            for row in rows:
                _log(trainer, row)
        self.live.restart()

    def on_train_batch_end(
        self, trainer: L.Trainer, _module: Any, outputs: Any, batch: Any, _index: int
    ) -> None:
        self.parts.append(outputs["metrics"])
        if not ends_step(batch):
            return
        names = dict.fromkeys(name for part in self.parts for name in part)
        means = {name: fmean(part[name] for part in self.parts if name in part) for name in names}
        self.parts = []
        if self.stream is not None:
            row = {"step": batch["step"] + 1, **means}
            self.writer.writerow(row)
            self.stream.flush()
            _log(trainer, row)
        self.live.restart()

    def on_train_end(self, _trainer: L.Trainer, _module: L.LightningModule) -> None:
        if self.stream is not None:
            self.stream.close()


def _log(trainer: L.Trainer, row: Mapping[str, Any]) -> None:
    values = {name: value for name, value in row.items() if name != "step"}
    for logger in trainer.loggers:
        logger.log_metrics(values, step=int(row["step"]))


class TimeBudget(Callback):
    """Stops training after some seconds, on all ranks alike, with a checkpoint in `folder`."""

    def __init__(self, seconds: float, folder: Path) -> None:
        self.deadline, self.folder, self.exhausted = time.monotonic() + seconds, folder, False

    def on_train_batch_end(
        self, trainer: L.Trainer, _module: Any, _outputs: Any, batch: Any, _index: int
    ) -> None:
        if not ends_step(batch):
            return
        over = trainer.strategy.reduce_boolean_decision(
            time.monotonic() >= self.deadline, all=False
        )
        if over and trainer.global_step < trainer.max_steps:
            trainer.save_checkpoint(self.folder / f"step={trainer.global_step}.ckpt")
            self.exhausted = trainer.should_stop = True


class TrainableOnly(Callback):
    """Keeps frozen weights, which are the base model's, out of checkpoints."""

    def on_save_checkpoint(
        self, _trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        trainable = {
            name for name, parameter in pl_module.named_parameters() if parameter.requires_grad
        }
        trainable |= set(getattr(pl_module, "extra_state_names", ()))
        checkpoint["state_dict"] = {
            k: v for k, v in checkpoint["state_dict"].items() if k in trainable
        }


class Checkpoints(ModelCheckpoint):
    """Saves between steps only, never weights that are not finite, and not after the last step.

    Lightning goes on from there without a step, and so without what is done when training ends.
    """

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        due = (
            ends_step(batch)
            and trainer.global_step % self._every_n_train_steps == 0
            and trainer.global_step < trainer.max_steps
        )
        if due and all(
            bool(torch.isfinite(p).all()) for p in pl_module.parameters() if p.requires_grad
        ):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def require_finite(loss: torch.Tensor, *, stage: str, step: int, batch: Sequence[str]) -> None:
    """Stop at the first NaN or infinite loss.

    Args:
        loss: scalar.
        stage: for the error.
        step: for the error.
        batch: captions of the batch, for the error.

    Raises:
        ValueError: the loss is not finite.
    """
    if not bool(torch.isfinite(loss.detach())):
        shown = "; ".join(list(batch)[:4])
        raise ValueError(
            f"{stage}: the loss is {loss.item()} at step {step} (batch:"
            f" {shown}{'; ...' if len(batch) > 4 else ''}). Lower the learning rate or use"
            " trainer.precision=32-true. The last good checkpoint stays."
        )


class StepProgressBar(RichProgressBar):
    """Lightning's bar without its 'Epoch 0/-2', as training counts steps."""

    def _get_train_description(self, _current_epoch: int) -> str:
        return "steps"
