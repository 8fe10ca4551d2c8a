"""Stage 2's Lightning module: the U-Net learns all concepts together (CLIF, Eq. 4)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import torch
from diffusers.training_utils import EMAModel
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from clif_exp.base_models.attention_maps import recorded
from clif_exp.base_models.conditioning import TextEncoders
from clif_exp.base_models.layerwise import TrainedEmbeddings
from clif_exp.base_models.unet_tuning.kind import UNetTuning
from clif_exp.diffusion.attention_loss import AttentionLoss
from clif_exp.diffusion.targets import NoiseSchedule
from clif_exp.training.callbacks import require_finite
from clif_exp.training.schedule import Schedule, learning_rate_schedule
from clif_exp.training.steps import ends_step


@dataclass(frozen=True)
class DiffusionOptimisation:
    """How stage 2 is optimised.

    Attributes:
        steps: optimiser steps.
        learning_rate: AdamW's peak, for the U-Net.
        embedding_learning_rate: for the concept embeddings, if they are trained.
        weight_decay: AdamW's; acts on trained weights only.
        warmup_steps: linear warm-up.
        schedule: after the warm-up.
        min_snr_gamma: min-SNR weighting (Hang et al. 2023), or None.
        ema_decay: decay of an average of the trained weights, which is published instead of them; 0
            keeps none.
        optimizer: "adamw" or "adamw8bit" (bitsandbytes; its states take a quarter of the memory).
        text_learning_rate: for what trains in the text encoders, if anything does.
        embedding_norm_limit: concept embeddings stop where their mean norm is this many times what
            it was; None: they go on.
        prior_loss_weight: of a prior image's error, beside 1 for the others.
    """

    steps: int
    learning_rate: float
    embedding_learning_rate: float
    weight_decay: float
    warmup_steps: int
    schedule: Schedule
    min_snr_gamma: float | None
    ema_decay: float
    optimizer: Literal["adamw", "adamw8bit"]
    text_learning_rate: float | None = None
    embedding_norm_limit: float | None = None
    prior_loss_weight: float = 1.0


class DiffusionModule(L.LightningModule):
    """Learns to denoise the concepts' images (CLIF, Eq. 4)."""

    def __init__(
        self,
        unet: Any,
        *,
        schedule: NoiseSchedule,
        text: TextEncoders,
        embeddings: dict[str, TrainedEmbeddings],
        encoded: Mapping[str, Tensor] | None,
        caption_ids: Mapping[str, Tensor],
        optimisation: DiffusionOptimisation,
        compiled: bool = False,
        teacher: UNetTuning | None = None,
        attention: AttentionLoss | None = None,
    ) -> None:
        """Take what trains, and the cached work of what does not.

        Args:
            unet: UNet2DConditionModel, prepared by a U-Net tuning; or frozen, then only the
                embeddings train.
            schedule: how latents are noised and what the U-Net predicts.
            text: the text encoders, holding the concepts' tokens.
            embeddings: trainable concept embeddings per encoder; empty: frozen, `encoded` is used.
            encoded: cached conditioning of all captions ("hidden" [K, 77, D], ...); None with
                trainable embeddings.
            caption_ids: token ids of all captions per encoder, int64 [K, 77].
            optimisation: how to train.
            compiled: run the U-Net through torch.compile.
            teacher: what prepared the U-Net, which without it is the teacher on prior images; None:
                they are learnt like all others.
            attention: penalty on where concepts' tokens attend to; None: none.
        """
        super().__init__()
        self.unet = unet
        # A function, not a wrapped module: weights keep their names, and the sampler its own,
        # uncompiled U-Net.
        self.predict = torch.compile(unet.forward) if compiled else unet.forward
        self.schedule, self.text, self.optimisation = schedule, text, optimisation
        self.teacher, self.attention = teacher, attention
        self.embeddings, self.encoded, self.caption_ids = embeddings, encoded, caption_ids
        self.first_metrics: dict[str, float] = {}
        self.row_weights = nn.ParameterDict({name: e.weight for name, e in embeddings.items()})
        # Frozen encoders move to the device only if every step needs them.
        self.text_encoders = nn.ModuleDict(
            {name: e for name, (_, e) in text.encoders.items()} if embeddings else {}
        )
        self.strict_loading = False
        self._watching = contextlib.ExitStack()
        # update_after_step=-1: the n-th step decays by min(ema_decay, (1 + n) / (10 + n)).
        self.average = (
            EMAModel(self.trained(), decay=optimisation.ema_decay, update_after_step=-1)
            if optimisation.ema_decay
            else None
        )

    def trained(self) -> list[nn.Parameter]:
        """Return the weights that train, in a fixed order."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def encode(self, caption_indices_B: Tensor) -> dict[str, Tensor]:
        """Return the encoded captions of these indices, int64 [B], as `TextEncoders.encode` does.

        They come from the cache, or are encoded with the embeddings as they are now.
        """
        indices = caption_indices_B.cpu()
        if self.encoded is not None:
            return {
                key: value[indices].to(self.device, non_blocking=True)
                for key, value in self.encoded.items()
            }
        return self.text.encode({name: ids[indices] for name, ids in self.caption_ids.items()})

    def per_image_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Return every image's squared error (Eq. 4), weighed by its mask if any, float32 [B].

        With a teacher, the error of a prior image is that to the base's prediction.
        """
        latents, noise, timesteps = batch["latents"], batch["noise"], batch["timesteps"]
        noisy = self.schedule.add_noise(latents, noise, timesteps).to(self.unet.dtype)
        target = self.schedule.target(latents, noise, timesteps).float()
        times = self.schedule.model_timesteps(timesteps)
        encoded = self.encode(batch["caption_indices"])
        if self.teacher is not None and "prior" in batch and bool(batch["prior"].any()):
            rows = batch["prior"]
            taught = {key: value[rows] for key, value in encoded.items()}
            predicted = self._base_prediction(noisy[rows], times[rows], taught)
            target = target.index_put((rows,), predicted.float())
        predicted = self.predict(noisy, times, **self.text.unet_arguments(encoded)).sample
        error_BCHW = (predicted.float() - target) ** 2
        if "weights" in batch:
            error_BCHW = error_BCHW * batch["weights"]
        return error_BCHW.mean(dim=(1, 2, 3))

    @torch.no_grad()
    def _base_prediction(
        self, noisy_PCHW: Tensor, times_P: Tensor, encoded: Mapping[str, Tensor]
    ) -> Tensor:
        """Return what the U-Net would predict without what was trained in it, [P, C, h, w]."""
        assert self.teacher is not None
        with self.teacher.switched_off(self.unet):
            # not compiled: the number of prior images varies from step to step
            return self.unet.forward(
                noisy_PCHW, times_P, **self.text.unet_arguments(encoded)
            ).sample

    def denoising_loss(self, batch: dict[str, Any]) -> Tensor:
        """Return the loss, a scalar, of this rank's share of a part of a `MixedBatches` batch."""
        part, parts = batch["part"]
        size = len(batch["latents"]) // (self.trainer.world_size * parts)
        start = (self.trainer.global_rank * parts + part) * size
        local = {
            name: value[start : start + size]
            for name, value in batch.items()
            if isinstance(value, Tensor)
        }
        # Up to the backward pass: with gradient checkpointing it computes activations again, and
        # must meet the same processors.
        maps = self._watching.enter_context(recorded(self.unet)) if self.attention else None
        error_B = self.per_image_loss(local)
        if (weight := self.optimisation.prior_loss_weight) != 1:
            error_B = torch.where(local["prior"], weight * error_B, error_B)
        if self.optimisation.min_snr_gamma is not None:
            error_B = error_B * self.schedule.min_snr(
                local["timesteps"], gamma=self.optimisation.min_snr_gamma
            )
        if self.attention and maps is not None:
            error_B = error_B + self.attention(
                maps, caption_indices_B=local["caption_indices"], masks_B1HW=local["masks"]
            )
        return error_B.mean()

    def training_step(self, batch: dict[str, Any], _index: int) -> dict[str, Any]:
        """Return the loss of one part of a step, and its row of metrics.csv."""
        loss = self.denoising_loss(batch)
        require_finite(loss, stage="diffusion", step=batch["step"], batch=batch["captions"])
        # over ranks; each saw its share only
        overall = self.trainer.strategy.reduce(loss.detach(), reduce_op="mean")
        metrics = {"loss": overall.item(), "lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        self.log("loss", metrics["loss"], prog_bar=True, logger=False)
        return {"loss": loss, "metrics": metrics}

    def configure_optimizers(self) -> Any:
        """Return the optimiser of the U-Net's trained weights and the embeddings, with schedule."""
        settings = self.optimisation
        unet = [p for p in self.unet.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"name": "unet", "params": unet, "lr": settings.learning_rate}
        ]
        groups = groups if unet else []
        if self.embeddings:
            groups.append(
                {
                    "name": "embeddings",
                    "params": list(self.row_weights.values()),
                    "lr": settings.embedding_learning_rate,
                }
            )
        if text := [p for p in self.text_encoders.parameters() if p.requires_grad]:
            groups.append(
                {"name": "text_encoder", "params": text, "lr": settings.text_learning_rate}
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

    def on_after_backward(self) -> None:
        """Watch attention no longer."""
        self._watching.close()

    def on_before_optimizer_step(self, _optimizer: Any) -> None:
        """Keep embeddings that have reached their norm where they are.

        Without a gradient AdamW leaves them alone, its decay and momentum too.
        """
        if (factor := self.optimisation.embedding_norm_limit) is None:
            return
        for held in self.embeddings.values():
            if float(held.mean_norm()) >= factor * held.initial_norm:
                held.weight.grad = None

    def on_fit_start(self) -> None:
        """Put the average where the weights are."""
        if self.average is not None:
            self.average.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the average too."""
        if self.average is not None:
            checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume the average too."""
        if self.average is not None:
            self.average.load_state_dict(checkpoint["average"])

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Hold, inside, what would be published now: the averaged weights, where there are any."""
        if self.average is None:
            yield
            return
        self.average.store(self.trained())
        self.average.copy_to(self.trained())
        try:
            yield
        finally:
            self.average.restore(self.trained())


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
    """Updates the module's average after every step, and publishes it at the end.

    A callback, not a hook of the module: those run after the checkpoint of the step is written,
    which would lose an update.
    """

    def on_train_batch_end(
        self, _trainer: L.Trainer, pl_module: Any, _outputs: Any, batch: Any, _index: int
    ) -> None:
        """Take a step's weights into the average."""
        if ends_step(batch):
            pl_module.average.step(pl_module.trained())

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Put the average in place of the weights, once training is complete."""
        if trainer.global_step >= trainer.max_steps:
            pl_module.average.copy_to(pl_module.trained())
