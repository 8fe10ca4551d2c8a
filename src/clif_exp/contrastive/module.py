"""Stage 1's Lightning module: the text tower of CLIP with the concepts' rows as its only trainable weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clif_exp.contrastive.loss import gather_with_gradient, symmetric_info_nce
from clif_exp.contrastive.pooling import pool
from clif_exp.tokens import ConceptRows
from clif_exp.trainer import require_finite


@dataclass(frozen=True)
class Optimisation:
    """How the rows are optimised.

    Args:
        steps: optimiser steps.
        learning_rate: AdamW's, its peak.
        weight_decay: AdamW's; acts on the trained rows only.
        warmup_steps: linear warm-up.
        schedule: "constant" or "cosine" (to zero).
        scale: "frozen" (CLIP's own temperature) or "learned".
        max_scale: cap of a learned scale.
        norm_weight: weight of a term that keeps the rows' norms near the vocabulary's mean norm.
        frozen_loss_every: steps between evaluations of the loss with the rows at their initial values.
    """

    steps: int
    learning_rate: float
    weight_decay: float = 0.0
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "cosine"
    scale: Literal["frozen", "learned"] = "frozen"
    max_scale: float = 100.0
    norm_weight: float = 0.0
    frozen_loss_every: int = 10


class ContrastiveModule(L.LightningModule):
    """Contrasts captions with cached image features (CLIF, Eq. 5).

    Args:
        clip: CLIPModel, frozen; only its text tower is kept.
        rows: the concepts' rows, inserted into that tower.
        image_features_ND: L2-normalised features of all pairs, float32 [N, D].
        optimisation: see there.
    """

    image_features_ND: Tensor
    initial_rows: Tensor

    def __init__(self, clip, *, rows: ConceptRows, image_features_ND: Tensor, optimisation: Optimisation) -> None:
        super().__init__()
        self.text_model = clip.text_model.requires_grad_(False).eval()
        self.text_projection = clip.text_projection.requires_grad_(False)
        self.rows = rows
        self.row_weight = rows.weight
        self.settings = optimisation
        log_scale = clip.logit_scale.detach().float().clone()
        self.log_scale = nn.Parameter(log_scale, requires_grad=optimisation.scale == "learned")
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
        """Return L2-normalised text features read at given positions: int64 [B, L], int64 [B] -> float32 [B, D]."""
        hidden_BLD = self.text_model(input_ids=ids_BL).last_hidden_state
        return F.normalize(self.text_projection(pool(hidden_BLD, positions_B)).float(), dim=-1)

    def scale(self) -> Tensor:
        """Return the inverse temperature; a learned one is capped."""
        return self.log_scale.clamp(max=math.log(self.settings.max_scale)).exp()

    def loss(self, batch: dict) -> Tensor:
        """Return the contrastive loss of the joined batch of all ranks."""
        local = slice(*self._share(len(batch["indices"])))
        text_BD = self.text_features(batch["ids"][local], batch["positions"][local])
        text_ND = gather_with_gradient(text_BD)
        image_ND = self.image_features_ND[batch["indices"]]
        return symmetric_info_nce(text_ND, image_ND, targets_NN=batch["targets"], scale=self.scale())

    def _share(self, size: int) -> tuple[int, int]:
        per_rank = size // self.trainer.world_size
        return self.trainer.global_rank * per_rank, (self.trainer.global_rank + 1) * per_rank

    def training_step(self, batch: dict, _index: int) -> dict:
        """One step; the batch is what `stage.PairBatches` makes."""
        step = batch["step"]
        contrast = self.loss(batch)
        require_finite(contrast, stage="contrastive", step=step, batch=batch["captions"])
        total = contrast
        if self.settings.norm_weight:
            total = total + self.settings.norm_weight * ((self.row_weight.norm(dim=1) / self.vocabulary_norm - 1) ** 2).mean()
        metrics = {"loss": contrast.item(), "lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        if step % self.settings.frozen_loss_every == 0:
            metrics["loss_frozen_rows"] = self._loss_with_initial_rows(batch)
        self.log_dict({f"contrastive/{name}": value for name, value in metrics.items()})
        self.log("loss", metrics["loss"], prog_bar=True, logger=False)
        return {"loss": total, "metrics": metrics}

    @torch.no_grad()
    def _loss_with_initial_rows(self, batch: dict) -> float:
        trained = self.row_weight.detach().clone()
        self.row_weight.copy_(self.initial_rows)
        try:
            return self.loss(batch).item()
        finally:
            self.row_weight.copy_(trained)

    def configure_optimizers(self) -> Any:
        """AdamW over the rows (and a learned scale, which never decays)."""
        settings = self.settings
        groups = [{"params": [self.row_weight], "weight_decay": settings.weight_decay}]
        if self.log_scale.requires_grad:
            groups.append({"params": [self.log_scale], "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _factor(self, step: int) -> float:
        return schedule_factor(step, steps=self.settings.steps, warmup_steps=self.settings.warmup_steps, schedule=self.settings.schedule)


def schedule_factor(step: int, *, steps: int, warmup_steps: int, schedule: str) -> float:
    """Return the learning rate's factor at a step: linear warm-up, then constant or a half cosine to zero."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))))
