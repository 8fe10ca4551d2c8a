"""The training loop of all base models: batches by step, weight averaging, exact resumption."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, IterableDataset

from clif_exp.toonworld.recipes.muon import MuonAdamW
from clif_exp.toonworld.recipes.widen import widened

Batch = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How one base model is trained.

    Attributes:
        name: also the folder's name.
        model: what is trained.
        batch: step -> batch; derives all randomness from the step, so that a resumed run sees the
            same data.
        loss: (model, batch) -> scalar loss and named scalars for the log.
        publish: (averaged model, folder) writes the weights in their shipped layout.
        steps: total optimiser steps.
        learning_rate: peak, of matrices under Muon; linear warm-up over 100 steps, constant, then
            linear decay to zero.
        adamw_learning_rate: of everything else, with the same schedule.
        decay: share of the steps over which the learning rate decays.
        average: decay of the exponential moving average of the weights, after its ramp-up.
        weight_decay: decoupled, of all parameters.
        core: attribute of `model` that `publish` writes; None: all of it. The rest are heads for
            training alone.
    """

    name: str
    model: nn.Module
    batch: Callable[[int], Batch]
    loss: Callable[[Any, Batch], tuple[Tensor, dict[str, Tensor]]]
    publish: Callable[[Any, Path], None]
    steps: int
    learning_rate: float
    adamw_learning_rate: float = 1e-3
    decay: float = 0.3
    average: float = 0.999
    weight_decay: float = 0.01
    core: str | None = None


def _ramped(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average with growing memory, so that short runs forget their start."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():
            return current
        return averaged.lerp(current, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return average


class _Steps(IterableDataset):
    def __init__(
        self, batch: Callable[[int], Batch], *, start: int, stop: int, rank: int, world_size: int
    ):
        self.batch, self.range = (
            batch,
            range(start * world_size + rank, stop * world_size, world_size),
        )

    def __iter__(self) -> Iterator[Batch]:
        return (self.batch(step) for step in self.range)


class _Fit(L.LightningModule):
    def __init__(self, recipe: Recipe):
        super().__init__()
        self.recipe, self.model = recipe, recipe.model
        self.averaged = AveragedModel(
            recipe.model, avg_fn=_ramped(recipe.average), use_buffers=True
        ).requires_grad_(False)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        # Noise depends on the step, not on the history: a resumed run draws the same.
        torch.manual_seed(self.global_step * self.trainer.world_size + self.global_rank)
        loss, scalars = self.recipe.loss(self.model, batch)
        if not torch.isfinite(loss):
            raise RuntimeError(
                f"{self.recipe.name}: the loss is {loss.item()} at step {self.global_step}"
            )
        self.log_dict({"loss": loss.detach(), **scalars}, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = MuonAdamW(
            self.model,
            lr=self.recipe.learning_rate,
            adamw_lr=self.recipe.adamw_learning_rate,
            weight_decay=self.recipe.weight_decay,
        )
        steps, tail = self.recipe.steps, max(1, round(self.recipe.steps * self.recipe.decay))

        def factor(step: int) -> float:
            return min((step + 1) / 100, 1.0, max(0.0, (steps - step) / tail))

        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor),
                "interval": "step",
            },
        }


class _Slices(L.Callback):
    """Averages the weights, saves `last.ckpt` every 5 minutes and at the end, prints progress."""

    def __init__(self, path: Path, *, max_time: float | None):
        self.path, self.deadline = path, None if max_time is None else time.monotonic() + max_time
        self.saved = self.printed = time.monotonic()
        self.steps_then: int | None = None

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        module.averaged.update_parameters(module.model)  # before any checkpoint of this step
        now = time.monotonic()
        if self.steps_then is None:
            self.steps_then, self.printed = trainer.global_step, now
        if now - self.printed > 60 and trainer.is_global_zero:
            rate = (trainer.global_step - self.steps_then) / (now - self.printed)
            scalars = "  ".join(
                f"{key} {float(value):.4f}" for key, value in trainer.callback_metrics.items()
            )
            print(
                f"{module.recipe.name} step {trainer.global_step}/{module.recipe.steps}  {rate:.2f}"
                f" steps/s  {scalars}",
                flush=True,
            )
            self.steps_then, self.printed = trainer.global_step, now
        # Saving is collective: ranks must agree on the step, but their clocks differ.
        if trainer.strategy.reduce_boolean_decision(
            self.deadline is not None and now > self.deadline, all=False
        ):
            trainer.should_stop = True
        if trainer.should_stop or trainer.strategy.reduce_boolean_decision(
            now - self.saved > 300, all=False
        ):
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.path.with_suffix(".partial"))
        if trainer.is_global_zero:
            self.path.with_suffix(".partial").replace(self.path)
        self.saved = time.monotonic()


def fit(recipe: Recipe, *, folder: Path, max_time: float | None, **trainer_options: Any) -> bool:
    """Train `recipe`, resuming from `folder/last.ckpt` if it exists.

    Args:
        recipe: what is trained.
        folder: takes the checkpoint.
        max_time: seconds after which to stop with a checkpoint; None: no limit.
        trainer_options: of Lightning's `Trainer`.

    Returns:
        Whether the recipe is finished.
    """
    checkpoint = folder / "last.ckpt"
    folder.mkdir(parents=True, exist_ok=True)
    start = (
        torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"]
        if checkpoint.exists()
        else 0
    )
    if start >= recipe.steps:
        return True
    slices = _Slices(checkpoint, max_time=max_time)
    trainer = L.Trainer(
        max_steps=recipe.steps,
        callbacks=[slices],
        logger=False,
        enable_checkpointing=False,
        gradient_clip_val=1.0,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **trainer_options,
    )
    data = _Steps(
        recipe.batch,
        start=start,
        stop=recipe.steps,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )
    trainer.fit(
        _Fit(recipe),
        DataLoader(data, batch_size=None),
        ckpt_path=checkpoint if checkpoint.exists() else None,
    )
    slices.save(trainer)
    return trainer.global_step >= recipe.steps


def load_published(
    recipe: Recipe, *, folder: Path, translate: Callable[[dict[str, Tensor]], None] | None = None
) -> None:
    """Load weights that `publish` wrote to `folder`, widened for a wider model (`widen`).

    Args:
        recipe: whose model takes them.
        folder: safetensors.
        translate: changes the weights in place first.

    Raises:
        FileNotFoundError: the folder holds no weights.
        RuntimeError: the weights are of another architecture.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"{folder}: no safetensors to start from. Train the model, or `restore` the shipped"
            " weights first."
        )
    state = {key: value.float() for file in files for key, value in load_file(file).items()}
    if translate is not None:
        translate(state)
    core = recipe.model if recipe.core is None else recipe.model.get_submodule(recipe.core)
    core.load_state_dict(widened(state, core))


def load_averaged(recipe: Recipe, *, folder: Path) -> nn.Module:
    """Load the averaged weights of the last checkpoint into `recipe.model`."""
    state = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    prefix = "averaged.module."
    recipe.model.load_state_dict(
        {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    )
    return recipe.model.eval()
