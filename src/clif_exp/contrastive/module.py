"""Stage 1's Lightning module: CLIP's text tower, of which the concepts' rows train, and more by
option.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clif_exp.base_models.text_tuning import TextTuning, make_trainable, tuned_state
from clif_exp.base_models.tokens import ConceptRows
from clif_exp.contrastive.loss import gather_with_gradient, symmetric_info_nce
from clif_exp.contrastive.pooling import pool
from clif_exp.training.callbacks import require_finite
from clif_exp.training.schedule import schedule_factor


@dataclass(frozen=True)
class Optimisation:
    """How the rows, and what trains beside them, are optimised.

    Args:
        steps: optimiser steps.
        learning_rate: AdamW's, its peak.
        weight_decay: AdamW's; acts on what trains only.
        warmup_steps: linear warm-up.
        schedule: "constant" or "cosine" (to zero).
        logit_scale: "frozen" (CLIP's own temperature) or "learned".
        max_logit_scale: cap of a learned scale.
        norm_loss_weight: weight of a term that keeps the rows' norms near the vocabulary's mean norm.
        frozen_loss_every: steps between evaluations of the loss with the rows at their initial
            values.
        tuning: what of the text encoder trains beside the rows.
    """

    steps: int
    learning_rate: float
    weight_decay: float = 0.0
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "cosine"
    logit_scale: Literal["frozen", "learned"] = "frozen"
    max_logit_scale: float = 100.0
    norm_loss_weight: float = 0.0
    frozen_loss_every: int = 10
    tuning: TextTuning = field(default_factory=TextTuning)


class ContrastiveModule(L.LightningModule):
    """Contrasts captions with cached image features (CLIF, Eq. 5).

    Args:
        clip: CLIPModel; only its text tower is kept, and frozen but for what `optimisation.tuning`
            names. The projection stays frozen: the U-Net never reads behind it, so what it learnt
            would be lost.
        rows: the concepts' rows, inserted into that tower.
        image_features_ND: L2-normalised features of all pairs, float32 [N, D].
        optimisation: see there.
        seed: of a LoRA's initial weights.
    """

    image_features_ND: Tensor
    initial_rows: Tensor

    def __init__(
        self,
        clip,
        *,
        rows: ConceptRows,
        image_features_ND: Tensor,
        optimisation: Optimisation,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.text_model = clip.text_model.requires_grad_(False).eval()
        self.encoder_weights = make_trainable(
            self.text_model, tuning=optimisation.tuning, seed=seed
        )
        self.text_projection = clip.text_projection.requires_grad_(False)
        self.rows = rows
        self.row_weight = rows.weight
        self.settings = optimisation
        log_scale = clip.logit_scale.detach().float().clone()
        self.log_scale = nn.Parameter(
            log_scale, requires_grad=optimisation.logit_scale == "learned"
        )
        table = rows.embedding.weight.detach()
        known = torch.ones(len(table), dtype=torch.bool)
        known[rows.flat_ids.cpu()] = False
        self.vocabulary_norm = float(table[known.to(table.device)].float().norm(dim=1).mean())
        self.register_buffer("image_features_ND", image_features_ND, persistent=False)
        self.register_buffer("initial_rows", rows.weight.detach().clone(), persistent=True)
        # The rows are read from the checkpoint before `initial_rows` would be copied from them.
        self.extra_state_names = ("initial_rows",)
        self.strict_loading = False

    def text_features(self, ids_BL: Tensor, positions_B: Tensor) -> Tensor:
        """Return L2-normalised text features read at given positions: int64 [B, L], int64 [B] ->
        float32 [B, D].
        """
        hidden_BLD = self.text_model(input_ids=ids_BL).last_hidden_state
        return F.normalize(self.text_projection(pool(hidden_BLD, positions_B)).float(), dim=-1)

    def scale(self) -> Tensor:
        """Return the inverse temperature."""
        return self.log_scale.exp()

    def loss(self, batch: dict, *, rank: int = 0, ranks: int = 1) -> Tensor:
        """Return the contrastive loss of the joined batch of all ranks, of which this one encodes
        its share.
        """
        size = len(batch["indices"]) // ranks
        local = slice(rank * size, (rank + 1) * size)
        text_BD = self.text_features(batch["ids"][local], batch["positions"][local])
        text_ND = gather_with_gradient(text_BD)
        image_ND = self.image_features_ND[batch["indices"]]
        return symmetric_info_nce(
            text_ND, image_ND, targets_NN=batch["targets"], scale=self.scale()
        )

    def trained_encoder(self) -> dict[str, Tensor]:
        """Return what trained beside the rows, as `text_tuning` files hold it."""
        return tuned_state(self.text_model, tuning=self.settings.tuning)

    def training_step(self, batch: dict, _index: int) -> dict:
        """One step; the batch is what `batches.PairBatches` makes."""
        step = batch["step"]
        if self.log_scale.requires_grad:
            with torch.no_grad():
                # The parameter itself is capped: clamping its use only would leave it without a
                # gradient above the cap, for good.
                self.log_scale.clamp_(max=math.log(self.settings.max_logit_scale))
        # Before the loss's graph is built, whose norm term would not stand the rows being exchanged
        # under it.
        frozen = (
            self._loss_with_initial_rows(batch)
            if step % self.settings.frozen_loss_every == 0
            else None
        )
        contrast = self._loss_here(batch)
        require_finite(contrast, stage="contrastive", step=step, batch=batch["captions"])
        total = contrast
        if self.settings.norm_loss_weight:
            total = (
                total
                + self.settings.norm_loss_weight
                * ((self.row_weight.norm(dim=1) / self.vocabulary_norm - 1) ** 2).mean()
            )
        metrics = {"loss": contrast.item(), "lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        if frozen is not None:
            metrics["loss_frozen_rows"] = frozen
        self.log_dict({f"contrastive/{name}": value for name, value in metrics.items()})
        self.log("loss", metrics["loss"], prog_bar=True, logger=False)
        return {"loss": total, "metrics": metrics}

    def _loss_here(self, batch: dict) -> Tensor:
        return self.loss(batch, rank=self.trainer.global_rank, ranks=self.trainer.world_size)

    @torch.no_grad()
    def _loss_with_initial_rows(self, batch: dict) -> float:
        trained = self.row_weight.detach().clone()
        self.row_weight.copy_(self.initial_rows)
        try:
            return self._loss_here(batch).item()
        finally:
            self.row_weight.copy_(trained)

    def configure_optimizers(self) -> Any:
        """AdamW over the rows, what of the encoder trains, and a learned scale, which never decays."""
        settings = self.settings
        groups: list[dict[str, Any]] = [
            {"params": [self.row_weight], "weight_decay": settings.weight_decay}
        ]
        if self.encoder_weights:
            groups.append(
                {
                    "params": self.encoder_weights,
                    "weight_decay": settings.weight_decay,
                    "lr": settings.tuning.learning_rate,
                }
            )
        if self.log_scale.requires_grad:
            groups.append({"params": [self.log_scale], "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _factor(self, step: int) -> float:
        return schedule_factor(
            step,
            steps=self.settings.steps,
            warmup_steps=self.settings.warmup_steps,
            schedule=self.settings.schedule,
        )
