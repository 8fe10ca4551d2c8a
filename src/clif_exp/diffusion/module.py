"""Stage 2's Lightning module: one shared LoRA on the U-Net's attention, trained on all concepts (CLIF, Eq. 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from clif_exp.contrastive.module import schedule_factor
from clif_exp.diffusion.conditioning import TextEncoders
from clif_exp.tokens import ConceptRows
from clif_exp.trainer import require_finite


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
        ema_decay: decay of an average of the trained weights that is published in their stead; 0 switches it off.
    """

    steps: int
    learning_rate: float
    embedding_learning_rate: float
    weight_decay: float = 0.01
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    min_snr_gamma: float | None = None
    ema_decay: float = 0.0


class DiffusionModule(L.LightningModule):
    """Learns to denoise the concepts' pictures (CLIF, Eq. 4).

    Args:
        unet: UNet2DConditionModel with an adapter, or without (then only the rows train).
        scheduler: a DDPMScheduler with the base's schedule; its `prediction_type` says what the U-Net predicts.
        text: the text encoders, holding the concepts' tokens.
        rows: trainable rows per encoder; empty: the embeddings are frozen and `encoded` is used.
        encoded: cached conditioning of all captions ("hidden" [K, 77, D], ...), or None with trainable rows.
        caption_ids: token ids of all captions per encoder, int64 [K, 77].
        optimisation: see there.
    """

    def __init__(
        self,
        unet,
        *,
        scheduler,
        text: TextEncoders,
        rows: dict[str, ConceptRows],
        encoded: dict[str, Tensor] | None,
        caption_ids: dict[str, Tensor],
        optimisation: Optimisation,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.scheduler, self.text, self.rows, self.settings = scheduler, text, rows, optimisation
        self.encoded, self.caption_ids = encoded, caption_ids
        self.row_weights = nn.ParameterDict({name: r.weight for name, r in rows.items()})
        # Frozen encoders move to the device only if every step needs them.
        self.text_encoders = nn.ModuleDict({name: e for name, (_, e) in text.encoders.items()} if rows else {})
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
        """Return the U-Net's arguments for captions given by index: from the cache, or encoded with the rows as they are."""
        if self.encoded is not None:
            indices = caption_indices_B.cpu()
            encoded = {key: value[indices].to(self.device, non_blocking=True) for key, value in self.encoded.items()}
        else:
            encoded = self.text.encode({name: ids[caption_indices_B.cpu()] for name, ids in self.caption_ids.items()})
        return self.text.unet_arguments(encoded)

    def denoising_loss(self, batch: dict[str, Any]) -> Tensor:
        """Return the loss of this rank's share of a batch (`data.MixedBatches`), a scalar."""
        size = len(batch["latents"]) // self.trainer.world_size
        local = slice(self.trainer.global_rank * size, (self.trainer.global_rank + 1) * size)
        latents, noise, timesteps = (batch[key][local] for key in ("latents", "noise", "timesteps"))
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        target = self._target(latents, noise, timesteps)
        predicted = self.unet(noisy.to(self.unet.dtype), timesteps, **self.conditioning(batch["caption_indices"][local])).sample
        error_BCHW = (predicted.float() - target.float()) ** 2
        if "weights" in batch:
            error_BCHW = error_BCHW * batch["weights"][local]
        error_B = error_BCHW.mean(dim=(1, 2, 3))
        if self.settings.min_snr_gamma is not None:
            error_B = error_B * self._min_snr(timesteps)
        return error_B.mean()

    def _target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        kind = self.scheduler.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            return self.scheduler.get_velocity(latents, noise, timesteps)
        if kind == "sample":
            return latents
        raise ValueError(f"scheduler: found prediction_type {kind!r}; known are epsilon, v_prediction and sample.")

    def _min_snr(self, timesteps_B: Tensor) -> Tensor:
        """min(SNR, gamma) over what the prediction type weighs by itself already (Hang et al. 2023, section 3.4)."""
        alphas = self.scheduler.alphas_cumprod.to(timesteps_B.device)[timesteps_B].float()
        snr = alphas / (1 - alphas).clamp(min=1e-8)
        capped = snr.clamp(max=self.settings.min_snr_gamma)
        kind = self.scheduler.config.prediction_type
        return {"epsilon": capped / snr.clamp(min=1e-8), "v_prediction": capped / (snr + 1), "sample": capped}[kind]

    def training_step(self, batch: dict[str, Any], _index: int) -> dict[str, Any]:
        """One step."""
        loss = self.denoising_loss(batch)
        require_finite(loss, stage="diffusion", step=batch["step"], batch=batch["captions"])
        overall = self.trainer.strategy.reduce(loss.detach(), reduce_op="mean")  # over ranks; each saw its share only
        metrics = {"loss": overall.item(), "lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        self.log_dict({f"diffusion/{name}": value for name, value in metrics.items()})
        self.log("loss", metrics["loss"], prog_bar=True, logger=False)
        return {"loss": loss, "metrics": metrics}

    def configure_optimizers(self) -> Any:
        """AdamW over the adapter and, if trained, the rows."""
        settings = self.settings
        adapter = [p for p in self.unet.parameters() if p.requires_grad]
        groups = [{"params": adapter, "lr": settings.learning_rate}] if adapter else []
        if self.rows:
            groups.append({"params": list(self.row_weights.values()), "lr": settings.embedding_learning_rate})
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _factor(self, step: int) -> float:
        settings = self.settings
        return schedule_factor(step, steps=settings.steps, warmup_steps=settings.warmup_steps, schedule=settings.schedule)


class WeightAverage(Callback):
    """Keeps the average of the trained weights and publishes it at the end.

    A callback, not a hook of the module: those run after the checkpoint of the step is written, which would lose an update.
    """

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs, batch, batch_idx) -> None:
        for index, parameter in enumerate(pl_module.trained()):
            getattr(pl_module, f"ema_{index}").lerp_(parameter.detach(), 1 - pl_module.settings.ema_decay)

    @torch.no_grad()
    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.global_step >= trainer.max_steps:
            for index, parameter in enumerate(pl_module.trained()):
                parameter.copy_(getattr(pl_module, f"ema_{index}"))
