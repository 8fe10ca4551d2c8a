"""What both training stages share: the Lightning trainer's settings, exact resume, metrics and the time budget.

A batch is a pure function of (seed, step). So resuming needs the step, the trainable weights and the optimiser only, and
a run that was killed anywhere ends with the same weights as an undisturbed one.
"""

from __future__ import annotations

import csv
import json
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from torch.utils.data import DataLoader, Dataset, Sampler

from clif_exp.artifacts import process_rank
from clif_exp.memory import explain_out_of_memory
from clif_exp.precision import best_precision

_LOG = logging.getLogger(__name__)
_EXPECTED_WARNINGS = (
    r"Checkpoint directory .* exists and is not empty",  # that is how a run goes on
    r"Found \d+ module\(s\) in eval mode",  # the frozen base models
    r".*ended before the epoch ended and your dataloader is not resumable",  # it is: batches are a function of the step
    r".*does not have many workers",  # making a batch costs nothing
    r".*isinstance\(treespec, LeafSpec\)",
)


class TimeBudgetExhausted(RuntimeError):
    """`trainer.max_time` ran out. A checkpoint is saved; the same command goes on from it."""


@dataclass(frozen=True)
class TrainerSettings:
    """How training runs, as opposed to what it computes.

    Args:
        accelerator: "cpu", "gpu" or "auto".
        devices: devices (or CPU processes) per node.
        strategy: Lightning's name of it: "auto", "ddp", ...
        precision: Lightning's name of it, or "auto": bf16-mixed where the hardware multiplies in bf16, else 32-true.
        max_time: seconds that one training stage may take in this process, or None.
        num_workers: data loader processes.
        checkpoint_every_n_steps: steps between checkpoints.
        progress: show a progress bar.
        loggers: Lightning loggers.
        num_nodes: machines.
    """

    accelerator: str = "cpu"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "auto"
    max_time: float | None = None
    num_workers: int = 0
    checkpoint_every_n_steps: int = 100
    progress: bool = False
    loggers: Sequence[Any] = field(default_factory=tuple)
    num_nodes: int = 1

    @property
    def device(self) -> str:
        """The torch device type that training will use: "cuda" or "cpu"."""
        wants_gpu = self.accelerator in ("gpu", "cuda") or (self.accelerator == "auto" and torch.cuda.is_available())
        return "cuda" if wants_gpu else "cpu"


def step_generator(seed: int, step: int, *, stream: int = 0) -> torch.Generator:
    """Return a CPU generator that depends on (seed, stream, step) only; `stream` keeps uses apart (data, noise, ...)."""
    # A 64-bit mix (splitmix64's constants): neighbouring steps must not give correlated streams.
    state = (seed * 0x9E3779B97F4A7C15 + stream * 0xBF58476D1CE4E5B9 + step * 0x94D049BB133111EB + 1) % 2**64
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
    return torch.Generator().manual_seed((state ^ (state >> 31)) % 2**63)


class _Steps(Dataset):
    """The batch of every step, `parts` times in a row; ``batch["part"]`` says which part of it is to be computed."""

    def __init__(self, make_batch: Callable[[int], Any], steps: int, parts: int) -> None:
        self.make_batch, self.steps, self.parts = make_batch, steps, parts
        self.last: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return self.steps * self.parts

    def __getitem__(self, index: int) -> Any:
        step, part = divmod(index, self.parts)
        if self.last[0] != step:
            self.last = step, self.make_batch(step)
        return {**self.last[1], "part": (part, self.parts)}


def ends_step(batch: Mapping[str, Any]) -> bool:
    """Return whether the optimiser has stepped after this part of a batch."""
    part, parts = batch["part"]
    return part == parts - 1


class _FromStep(Sampler):
    """Indices of the batches from a step on."""

    def __init__(self, start: int, steps: int, parts: int) -> None:
        self.start, self.steps, self.parts = start, steps, parts

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start * self.parts, self.steps * self.parts))

    def __len__(self) -> int:
        return self.steps * self.parts  # Lightning counts those before the resume too.


class _Metrics(Callback):
    """Writes one row per step to metrics.csv; on resume drops the rows that will be computed again.

    What a module knows before its first step (its attribute `first_metrics`) is the row of step 0.
    """

    def __init__(self, path: Path, columns: Sequence[str], start: int) -> None:
        self.path, self.columns = path, ["step", *columns]
        kept: list[dict[str, str]] = []
        if start and path.is_file():
            with path.open(newline="") as stream:
                # A row that was cut off lacks cells; those up to `start` are whole.
                kept = [row for row in csv.DictReader(stream) if None not in row.values() and int(row["step"]) <= start]
        self.rows = kept
        self.parts: list[Mapping[str, float]] = []
        self.stream: TextIO | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.stream = self.path.open("w", newline="")
            self.writer = csv.DictWriter(self.stream, self.columns, extrasaction="ignore")
            self.writer.writeheader()
            first = getattr(pl_module, "first_metrics", None)
            self.writer.writerows([{"step": 0, **first}] if first and not self.rows else self.rows)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.parts.append(outputs["metrics"])
        if not ends_step(batch):
            return
        names = dict.fromkeys(name for part in self.parts for name in part)
        means = {name: fmean(part[name] for part in self.parts if name in part) for name in names}
        self.parts = []
        if self.stream is not None:
            self.writer.writerow({"step": batch["step"] + 1, **means})
            self.stream.flush()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.stream is not None:
            self.stream.close()


class _TimeBudget(Callback):
    """Stops training with a checkpoint when the seconds are used up."""

    def __init__(self, seconds: float, folder: Path) -> None:
        self.deadline, self.folder, self.exhausted = time.monotonic() + seconds, folder, False

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if not ends_step(batch):
            return
        over = trainer.strategy.reduce_boolean_decision(time.monotonic() >= self.deadline, all=False)
        if over and trainer.global_step < trainer.max_steps:
            trainer.save_checkpoint(self.folder / f"step={trainer.global_step}.ckpt")
            self.exhausted = trainer.should_stop = True


class _TrainableOnly(Callback):
    """Keeps frozen weights out of checkpoints: they are the base model's and would be most of the file."""

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        trainable = {name for name, parameter in pl_module.named_parameters() if parameter.requires_grad}
        trainable |= set(getattr(pl_module, "extra_state_names", ()))
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trainable}


class _Checkpoints(ModelCheckpoint):
    """Saves between steps, never within one, and never over a good checkpoint with weights that are not finite."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        due = ends_step(batch) and trainer.global_step % self._every_n_train_steps == 0
        if due and all(bool(torch.isfinite(p).all()) for p in pl_module.parameters() if p.requires_grad):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def newest_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """Return the newest readable checkpoint of a folder and its step, or None."""
    found = sorted(folder.glob("step=*.ckpt"), key=lambda f: int(f.stem.split("=")[1].split("-")[0]), reverse=True)
    for path in found:
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            return path, int(checkpoint["global_step"])
        except Exception as error:  # A disk that filled up mid-write: the one before is as good.
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
    metrics_file: str = "metrics.csv",
    gradient_clip: float | None = None,
    callbacks: Sequence[Callback] = (),
    accumulate: int = 1,
    lower: str = "the batch size",
) -> None:
    """Train a module for `steps` steps, going on from the last checkpoint in `out/checkpoints` if there is one.

    Args:
        module: `training_step` returns ``{"loss": Tensor, "metrics": {column: value}}``. Non-trainable state that must
            survive a resume is named in its attribute `extra_state_names`.
        out: the stage's folder.
        make_batch: step -> batch, a dict that holds ``"step"``; a pure function.
        steps: optimiser steps in all.
        settings: how to run.
        metrics: columns of metrics.csv after `step`.
        run_key: what the checkpoint belongs to; JSON. A checkpoint of something else is refused.
        metrics_file: file name under `out`.
        gradient_clip: norm, or None.
        callbacks: more Lightning callbacks; they come before the row of metrics.csv is written.
        accumulate: parts that a batch is computed in, one after the other; the module reads ``batch["part"]``.
        lower: what to lower when memory runs out, for the error.

    Raises:
        TimeBudgetExhausted: after saving a checkpoint.
        ValueError: `out/checkpoints` is of another run, or memory ran out.
    """
    if steps <= 0:
        return
    folder = out / "checkpoints"
    if process_rank() == 0:
        _claim(folder, run_key)
    last = newest_checkpoint(folder)
    path, start = last if last else (None, 0)
    budget = _TimeBudget(settings.max_time, folder) if settings.max_time else None
    checkpoint = _Checkpoints(
        folder, filename="{step}", every_n_train_steps=settings.checkpoint_every_n_steps, save_top_k=1,
        save_on_train_epoch_end=False, enable_version_counter=False,
    )  # fmt: skip
    precision: Any = best_precision(settings.device) if settings.precision == "auto" else settings.precision
    trainer = L.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision=precision,
        max_steps=steps,
        max_epochs=-1,
        logger=list(settings.loggers) or False,
        log_every_n_steps=10,
        callbacks=[
            checkpoint, _TrainableOnly(), *callbacks, _Metrics(out / metrics_file, metrics, start),
            *([budget] if budget else []), *([_Progress()] if settings.progress else []),
        ],
        accumulate_grad_batches=accumulate,
        enable_progress_bar=settings.progress,
        enable_model_summary=False,
        gradient_clip_val=gradient_clip,
        use_distributed_sampler=False,
        default_root_dir=out,
    )  # fmt: skip
    loader = DataLoader(
        _Steps(make_batch, steps, accumulate), batch_size=None, sampler=_FromStep(start, steps, accumulate),
        num_workers=settings.num_workers, pin_memory=settings.device == "cuda",
    )  # fmt: skip
    with warnings.catch_warnings(), explain_out_of_memory(lambda: f"step {trainer.global_step + 1} of {steps}", lower=lower):
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        trainer.fit(module, loader, ckpt_path=path, weights_only=True)
    if budget and budget.exhausted:
        raise TimeBudgetExhausted(
            f"trainer.max_time: {settings.max_time:.0f} s are used up at step {trainer.global_step} of {steps}. "
            "A checkpoint is saved; run the same command again to go on."
        )
    assert trainer.global_step == steps, (trainer.global_step, steps)
    if trainer.is_global_zero:
        shutil.rmtree(folder)


def _claim(folder: Path, run_key: Mapping[str, Any]) -> None:
    key_file = folder / "run.json"
    key = json.dumps(run_key, sort_keys=True, default=str)
    if key_file.is_file() and key_file.read_text() != key:
        raise ValueError(f"{folder} holds checkpoints of another run. Remove the folder or write to another one.")
    folder.mkdir(parents=True, exist_ok=True)
    key_file.write_text(key)


def require_finite(loss: torch.Tensor, *, stage: str, step: int, batch: Sequence[str]) -> None:
    """Stop at the first NaN or infinite loss, naming the step and what was in the batch.

    Raises:
        ValueError: the loss is not finite.
    """
    if not bool(torch.isfinite(loss.detach())):
        shown = "; ".join(list(batch)[:4])
        raise ValueError(
            f"{stage}: the loss is {loss.item()} at step {step} (batch: {shown}{'; ...' if len(batch) > 4 else ''}). "
            "Lower the learning rate or use trainer.precision=32-true. The last good checkpoint stays."
        )


class _Progress(RichProgressBar):
    """Lightning's bar without its 'Epoch 0/-2': steps are what is counted here."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "steps"


def quiet_lightning() -> None:
    """Keep Lightning's start-up notices out of the log; warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
