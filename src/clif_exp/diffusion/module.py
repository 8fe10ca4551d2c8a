"""Stage 2's Lightning module: one shared LoRA on the U-Net's attention, trained on all concepts
(CLIF, Eq. 4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from clif_exp.base_models.tokens import ConceptEmbeddings
from clif_exp.diffusion.conditioning import TextEncoders
from clif_exp.diffusion.targets import NoiseSchedule
from clif_exp.training.callbacks import require_finite
from clif_exp.training.schedule import learning_rate_schedule
from clif_exp.training.steps import ends_step


@dataclass(frozen=True)
class Optimisation:
    """How stage 2 is optimised.

    Args:
        steps: optimiser steps.
        learning_rate: AdamW's peak, for the LoRA.
        embedding_learning_rate: for the concepts' rows, if they are trained.
        weight_decay: AdamW's; acts on trained weights only.
        warmup_steps: linear warm-up.
        schedule: "constant" or "cosine" (to zero).
        min_snr_gamma: min-SNR weighting (Hang et al. 2023), or None.
        ema_decay: decay of an average of the trained weights that is published in their stead; 0
            switches it off.
        optimizer: "adamw" or "adamw8bit" (bitsandbytes; its states take a quarter of the memory).
    """

    steps: int
    learning_rate: float
    embedding_learning_rate: float
    weight_decay: float = 0.01
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    min_snr_gamma: float | None = None
    ema_decay: float = 0.0
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"


class DiffusionModule(L.LightningModule):
    """Learns to denoise the concepts' images (CLIF, Eq. 4).

    Args:
        unet: UNet2DConditionModel with an adapter, or without (then only the rows train).
        schedule: how latents are noised and what the U-Net predicts, as the base's scheduler says.
        text: the text encoders, holding the concepts' tokens.
        rows: trainable rows per encoder; empty: the embeddings are frozen and `encoded` is used.
        encoded: cached conditioning of all captions ("hidden" [K, 77, D], ...), or None with
            trainable rows.
        caption_ids: token ids of all captions per encoder, int64 [K, 77].
        optimisation: see there.
        compiled: run the U-Net through torch.compile.
    """

    def __init__(
        self,
        unet,
        *,
        schedule: NoiseSchedule,
        text: TextEncoders,
        rows: dict[str, ConceptEmbeddings],
        encoded: dict[str, Tensor] | None,
        caption_ids: dict[str, Tensor],
        optimisation: Optimisation,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.unet = unet
        # A function, not a wrapped module: weights keep their names, and the sampler its own,
        # uncompiled U-Net.
        self.predict = torch.compile(unet.forward) if compiled else unet.forward
        self.schedule, self.text, self.rows, self.settings = schedule, text, rows, optimisation
        self.first_metrics: dict[str, float] = {}
        self.encoded, self.caption_ids = encoded, caption_ids
        self.row_weights = nn.ParameterDict({name: r.weight for name, r in rows.items()})
        # Frozen encoders move to the device only if every step needs them.
        self.text_encoders = nn.ModuleDict(
            {name: e for name, (_, e) in text.encoders.items()} if rows else {}
        )
        self.strict_loading = False
        self.extra_state_names: list[str] = []
        if optimisation.ema_decay:
            for index, parameter in enumerate(self.trained()):
                self.register_buffer(f"ema_{index}", parameter.detach().clone())
                self.extra_state_names.append(f"ema_{index}")

    def trained(self) -> list[nn.Parameter]:
        """The weights that train, in a fixed order."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def conditioning(self, caption_indices_B: Tensor) -> dict[str, Any]:
        """Return the U-Net's arguments for captions given by index: from the cache, or encoded with
        the rows as they are.
        """
        if self.encoded is not None:
            indices = caption_indices_B.cpu()
            encoded = {
                key: value[indices].to(self.device, non_blocking=True)
                for key, value in self.encoded.items()
            }
        else:
            encoded = self.text.encode(
                {name: ids[caption_indices_B.cpu()] for name, ids in self.caption_ids.items()}
            )
        return self.text.unet_arguments(encoded)

    def errors(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the squared error of every image (Eq.

        4), weighed by its mask if the batch has weights, float32 [B].
        """
        latents, noise, timesteps = batch["latents"], batch["noise"], batch["timesteps"]
        noisy = self.schedule.noisy(latents, noise, timesteps).to(self.unet.dtype)
        target = self.schedule.target(latents, noise, timesteps)
        predicted = self.predict(
            noisy, self.schedule.read(timesteps), **self.conditioning(batch["caption_indices"])
        ).sample
        error_BCHW = (predicted.float() - target.float()) ** 2
        if "weights" in batch:
            error_BCHW = error_BCHW * batch["weights"]
        return error_BCHW.mean(dim=(1, 2, 3))

    def denoising_loss(self, batch: dict[str, Any]) -> Tensor:
        """Return the loss of this rank's share of a part of a batch (`data.MixedBatches`), a
        scalar.
        """
        part, parts = batch["part"]
        size = len(batch["latents"]) // (self.trainer.world_size * parts)
        start = (self.trainer.global_rank * parts + part) * size
        local = {
            name: value[start : start + size]
            for name, value in batch.items()
            if isinstance(value, Tensor)
        }
        error_B = self.errors(local)
        if self.settings.min_snr_gamma is not None:
            error_B = error_B * self.schedule.min_snr(
                local["timesteps"], gamma=self.settings.min_snr_gamma
            )
        return error_B.mean()

    def training_step(self, batch: dict[str, Any], _index: int) -> dict[str, Any]:
        """One step."""
        loss = self.denoising_loss(batch)
        require_finite(loss, stage="diffusion", step=batch["step"], batch=batch["captions"])
        overall = self.trainer.strategy.reduce(
            loss.detach(), reduce_op="mean"
        )  # over ranks; each saw its share only
        metrics = {"loss": overall.item(), "lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        self.log_dict({f"diffusion/{name}": value for name, value in metrics.items()})
        self.log("loss", metrics["loss"], prog_bar=True, logger=False)
        return {"loss": loss, "metrics": metrics}

    def configure_optimizers(self) -> Any:
        """The optimiser over the adapter and, if trained, the rows."""
        settings = self.settings
        adapter = [p for p in self.unet.parameters() if p.requires_grad]
        groups = [{"params": adapter, "lr": settings.learning_rate}] if adapter else []
        if self.rows:
            groups.append(
                {"params": list(self.row_weights.values()), "lr": settings.embedding_learning_rate}
            )
        kind = eight_bit_adam() if settings.optimizer == "adamw8bit" else torch.optim.AdamW
        optimizer = kind(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = learning_rate_schedule(
            optimizer,
            schedule=settings.schedule,
            steps=settings.steps,
            warmup_steps=settings.warmup_steps,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Hold the average of the trained weights inside, where one is kept: what would be
        published now.
        """
        pairs = (
            [(parameter, getattr(self, f"ema_{i}")) for i, parameter in enumerate(self.trained())]
            if self.settings.ema_decay
            else []
        )
        trained = [parameter.detach().clone() for parameter, _ in pairs]
        with torch.no_grad():
            for parameter, average in pairs:
                parameter.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for (parameter, _), value in zip(pairs, trained, strict=True):
                    parameter.copy_(value)


def eight_bit_adam() -> Any:
    """Return bitsandbytes' AdamW8bit.

    Raises:
        ValueError: the package is not installed.
    """
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        remedy = 'pip install "bitsandbytes>=0.50", or use diffusion.optimizer=adamw'
        raise ValueError(
            "diffusion.optimizer: found 'adamw8bit', but the package bitsandbytes does not import;"
            f" {remedy}."
        ) from error
    return AdamW8bit


class WeightAverage(Callback):
    """Keeps the average of the trained weights and publishes it at the end.

    Early on the average follows faster than its decay says, or it would remember the untrained
    start for ever. A callback, not a hook of the module: those run after the checkpoint of the step
    is written, which would lose an update.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs, batch, batch_idx
    ) -> None:
        if not ends_step(batch):
            return
        decay = min(
            pl_module.settings.ema_decay, (1 + trainer.global_step) / (10 + trainer.global_step)
        )
        for index, parameter in enumerate(pl_module.trained()):
            getattr(pl_module, f"ema_{index}").lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.global_step >= trainer.max_steps:
            for index, parameter in enumerate(pl_module.trained()):
                parameter.copy_(getattr(pl_module, f"ema_{index}"))
