"""Lightning's trainer as both training stages use it: exact resume, metrics, time budget.

A batch is a pure function of (seed, step). So resuming needs the step, the trainable weights and
the optimiser only, and a run that was killed anywhere ends with the same weights as an undisturbed
one.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from clif_exp.artifacts.store import process_rank
from clif_exp.base_models.precision import best_precision
from clif_exp.errors import TimeBudgetExhausted
from clif_exp.training.callbacks import (
    EXPECTED_WARNINGS,
    Checkpoints,
    MetricsFile,
    StepProgressBar,
    TimeBudget,
    TrainableOnly,
)
from clif_exp.training.live import LiveMetrics
from clif_exp.training.oom import explain_out_of_memory
from clif_exp.training.settings import TrainerSettings
from clif_exp.training.steps import FromStep, Steps

_LOG = logging.getLogger(__name__)


def newest_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """Return a folder's newest readable checkpoint and its step, or None."""
    found = sorted(
        folder.glob("step=*.ckpt"),
        key=lambda f: int(f.stem.split("=")[1].split("-")[0]),
        reverse=True,
    )
    for path in found:
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            return path, int(checkpoint["global_step"])
        except Exception as error:  # The disk was full: use the one before.
            _LOG.warning("%s cannot be read (%s); trying the one before.", path.name, error)
    return None


def fit(
    module: L.LightningModule,
    *,
    out: Path,
    make_batch: Callable[[int], Any],
    steps: int,
    settings: TrainerSettings,
    metrics: Sequence[str],
    run_key: Mapping[str, Any],
    hint: str,
    images_per_step: int,
    gradient_clip: float | None = None,
    callbacks: Sequence[Callback] = (),
    accumulate: int = 1,
    loggers: Sequence[Logger] = (),
) -> None:
    """Train a module for `steps` steps, resuming from the last checkpoint in `out/checkpoints`.

    Args:
        module: `training_step` returns ``{"loss": Tensor, "metrics": {column: value}}``.
            Non-trainable state that must survive a resume is named in its attribute
            `extra_state_names`.
        out: the stage's folder.
        make_batch: step -> batch, a dict that holds ``"step"``; a pure function.
        steps: optimiser steps in all; 0 does nothing.
        settings: how to run.
        metrics: columns of metrics.csv after `step`; the gradient's norm comes after them.
        run_key: what the checkpoint belongs to; JSON. A checkpoint of something else is refused.
        hint: what to lower when memory runs out, for the error.
        images_per_step: over all ranks.
        gradient_clip: norm, or None.
        callbacks: more Lightning callbacks; they come before the row of metrics.csv is written.
        accumulate: parts that a batch is computed in, one after the other; the module reads
            ``batch["part"]``.
        loggers: of rank 0; they get every row while training goes on, and what
            `training.live` adds to it.

    Raises:
        TimeBudgetExhausted: after saving a checkpoint.
        ValueError: `out/checkpoints` is of another run, or memory ran out.
    """
    if steps <= 0:
        return
    folder = out / "checkpoints"
    if process_rank() == 0:
        _claim(folder, run_key)
    path, start = newest_checkpoint(folder) or (None, 0)
    budget = TimeBudget(settings.max_time, folder) if settings.max_time else None
    live = LiveMetrics(images_per_step)
    metrics_file = MetricsFile(out / "metrics.csv", [*metrics, "gradient_norm"], start, live)
    trainer = _trainer(
        out,
        folder,
        steps=steps,
        settings=settings,
        callbacks=[live, *callbacks, metrics_file, *([budget] if budget else [])],
        gradient_clip=gradient_clip,
        accumulate=accumulate,
        loggers=loggers,
    )
    loader: DataLoader[Any] = DataLoader(
        Steps(make_batch, steps, accumulate),
        batch_size=None,
        sampler=FromStep(start, steps, accumulate),
        num_workers=settings.num_workers,
        pin_memory=settings.device == "cuda",
    )
    with (
        warnings.catch_warnings(),
        explain_out_of_memory(lambda: f"step {trainer.global_step + 1} of {steps}", hint=hint),
    ):
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        trainer.fit(module, loader, ckpt_path=path, weights_only=True)
    if budget and budget.exhausted:
        raise TimeBudgetExhausted(
            f"trainer.max_time: {settings.max_time:.0f} s are used up at step {trainer.global_step}"
            f" of {steps}. A checkpoint is saved."
        )
    assert trainer.global_step == steps, (trainer.global_step, steps)
    if trainer.is_global_zero:
        shutil.rmtree(folder)


def _trainer(
    out: Path,
    folder: Path,
    *,
    steps: int,
    settings: TrainerSettings,
    callbacks: Sequence[Callback],
    gradient_clip: float | None,
    accumulate: int,
    loggers: Sequence[Logger],
) -> L.Trainer:
    """Build Lightning's trainer, which counts steps and keeps the last checkpoint in `folder`."""
    checkpoints = Checkpoints(
        folder,
        filename="{step}",
        every_n_train_steps=settings.checkpoint_every_n_steps,
        save_top_k=1,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    bar = [StepProgressBar()] if settings.progress else []
    precision: Any = (
        best_precision(settings.device) if settings.precision == "auto" else settings.precision
    )
    return L.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision=precision,
        max_steps=steps,
        max_epochs=-1,
        logger=list(loggers) or False,
        log_every_n_steps=1,
        callbacks=[checkpoints, TrainableOnly(), *callbacks, *bar],
        accumulate_grad_batches=accumulate,
        enable_progress_bar=settings.progress,
        enable_model_summary=False,
        gradient_clip_val=gradient_clip,
        use_distributed_sampler=False,
        default_root_dir=out,
    )


def _claim(folder: Path, run_key: Mapping[str, Any]) -> None:
    """Refuse a folder that holds checkpoints of another run; else note whose they will be."""
    key_file = folder / "run.json"
    key = json.dumps(run_key, sort_keys=True, default=str)
    if key_file.is_file() and key_file.read_text() != key:
        raise ValueError(
            f"{folder} holds checkpoints of another run. Remove the folder or write to another one."
        )
    folder.mkdir(parents=True, exist_ok=True)
    key_file.write_text(key)


def quiet_lightning() -> None:
    """Keep Lightning's start-up notices out of the log, but not its warnings."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
