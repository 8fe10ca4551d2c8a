"""Stage 1's Lightning module: CLIP's text tower, in which the concept embeddings train.

Optionally the tower trains too (`base_models.text_tuning`).
"""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clif_exp.base_models.text_tuning import TextTuning, make_trainable, tuned_state
from clif_exp.base_models.trained_tokens import ConceptEmbeddings
from clif_exp.contrastive.basis import WordBasis
from clif_exp.contrastive.loss import gather_with_gradient, symmetric_info_nce
from clif_exp.contrastive.pooling import pool
from clif_exp.training.callbacks import require_finite
from clif_exp.training.schedule import Schedule, learning_rate_schedule

BASELINE_EVERY = 10  # steps between evaluations of the loss with the initial embeddings


class ContrastiveModule(L.LightningModule):
    """Contrasts captions with cached image features (CLIF, Eq. 5).

    Args:
        clip: CLIPModel; only its text tower is kept, and frozen but for what `tuning` names. The
            projection stays frozen: the U-Net reads the states before it, so what it learnt would
            be lost.
        embeddings: the concept embeddings, inserted into that tower.
        basis: the embeddings train as coordinates in it, which start at zero; None: they train
            themselves.
        image_features_ND: L2-normalised features of all pairs, float32 [N, D].
        tuning: what of the text tower trains besides the embeddings.
        seed: of a LoRA's initial weights.
        steps: optimiser steps.
        learning_rate: AdamW's, for the embeddings, its peak.
        weight_decay: AdamW's; acts on what trains only.
        warmup_steps: linear warm-up.
        schedule: after the warm-up: "constant" or "cosine" (to zero).
        learn_logit_scale: train CLIP's inverse temperature, which is frozen otherwise.
        max_logit_scale: cap of a learned inverse temperature.
        norm_loss_weight: weight of a term that keeps the embeddings' norms near the vocabulary's
            mean norm.
    """

    image_features_ND: Tensor
    initial_weight: Tensor

    def __init__(
        self,
        clip: Any,
        *,
        embeddings: ConceptEmbeddings,
        basis: WordBasis | None,
        image_features_ND: Tensor,
        tuning: TextTuning,
        seed: int,
        steps: int,
        learning_rate: float,
        weight_decay: float,
        warmup_steps: int,
        schedule: Schedule,
        learn_logit_scale: bool,
        max_logit_scale: float,
        norm_loss_weight: float,
    ) -> None:
        super().__init__()
        self.text_model = clip.text_model.requires_grad_(False).eval()
        self.encoder_weights = make_trainable(self.text_model, tuning=tuning, seed=seed)
        self.text_projection = clip.text_projection.requires_grad_(False)
        self.embeddings = embeddings
        self.basis = basis
        # What trains: the embeddings, or their coordinates.
        self.trained_weight = (
            embeddings.weight
            if basis is None
            else nn.Parameter(torch.zeros(len(embeddings.weight), len(basis.components_RD)))
        )
        self.tuning = tuning
        self.steps, self.warmup_steps, self.schedule = steps, warmup_steps, schedule
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.max_logit_scale, self.norm_loss_weight = max_logit_scale, norm_loss_weight
        # As in CLIP, the parameter is the logarithm.
        self.logit_scale = nn.Parameter(
            clip.logit_scale.detach().float().clone(), requires_grad=learn_logit_scale
        )
        self.vocabulary_norm = _vocabulary_norm(embeddings)
        self.register_buffer("image_features_ND", image_features_ND, persistent=False)
        initial = self.trained_weight.detach().clone()
        self.register_buffer("initial_weight", initial, persistent=True)
        # A checkpoint must hold it: on resume `trained_weight` is what was trained so far.
        self.extra_state_names = ("initial_weight",)
        self.strict_loading = False

    def text_features(self, ids_BL: Tensor, positions_B: Tensor) -> Tensor:
        """Return text features read at given positions.

        Args:
            ids_BL: token ids, int64 [B, L].
            positions_B: position to read per caption, int64 [B].

        Returns:
            L2-normalised, float32 [B, D].
        """
        if self.basis is not None:
            basis = self.basis.to(self.trained_weight.device)
            self.embeddings.place(basis.embeddings(self.trained_weight))
        hidden_BLD = self.text_model(input_ids=ids_BL).last_hidden_state
        return F.normalize(self.text_projection(pool(hidden_BLD, positions_B)).float(), dim=-1)

    def loss(self, batch: dict[str, Any], *, rank: int = 0, ranks: int = 1) -> Tensor:
        """Return the contrastive loss of the batch of all ranks; this rank encodes its share."""
        size = len(batch["indices"]) // ranks
        local = slice(rank * size, (rank + 1) * size)
        text_BD = self.text_features(batch["ids"][local], batch["positions"][local])
        text_ND = gather_with_gradient(text_BD)
        image_ND = self.image_features_ND[batch["indices"]]
        return symmetric_info_nce(
            text_ND, image_ND, targets_NN=batch["targets"], scale=self.logit_scale.exp()
        )

    def trained_encoder(self) -> dict[str, Tensor]:
        """Return what trained besides the embeddings, as `text_tuning` files hold it."""
        return tuned_state(self.text_model, tuning=self.tuning)

    def training_step(self, batch: dict[str, Any], _index: int) -> dict[str, Any]:
        """Return loss and metrics of a batch from `batches.PairBatches`."""
        step = batch["step"]
        if self.logit_scale.requires_grad:
            with torch.no_grad():
                # The parameter itself is capped: a clamp at its use would leave it without a
                # gradient once it is above the cap.
                self.logit_scale.clamp_(max=math.log(self.max_logit_scale))
        # Before the loss's graph is built: it exchanges the embeddings in place, which autograd
        # would refuse afterwards.
        baseline = self._loss_with_initial_embeddings(batch) if step % BASELINE_EVERY == 0 else None
        contrast = self._loss_here(batch)
        require_finite(contrast, stage="contrastive", step=step, batch=batch["captions"])
        total = contrast
        if self.norm_loss_weight:
            deviation_T = self.embeddings.weight.norm(dim=1) / self.vocabulary_norm - 1
            total = total + self.norm_loss_weight * (deviation_T**2).mean()
        metrics = {"loss": contrast.item(), "lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        if baseline is not None:
            metrics["loss_frozen_rows"] = baseline
        self.log("loss", metrics["loss"], prog_bar=True, logger=False)
        return {"loss": total, "metrics": metrics}

    def _loss_here(self, batch: dict[str, Any]) -> Tensor:
        return self.loss(batch, rank=self.trainer.global_rank, ranks=self.trainer.world_size)

    @torch.no_grad()
    def _loss_with_initial_embeddings(self, batch: dict[str, Any]) -> float:
        """Return the loss that context words alone reach on the same batch."""
        trained = self.trained_weight.detach().clone()
        self.trained_weight.copy_(self.initial_weight)
        try:
            return self._loss_here(batch).item()
        finally:
            self.trained_weight.copy_(trained)

    def on_train_end(self) -> None:
        """Leave the embeddings where the last step has put them."""
        if self.basis is not None:
            basis = self.basis.to(self.trained_weight.device)
            self.embeddings.place(basis.embeddings(self.trained_weight.detach()))

    def configure_optimizers(self) -> Any:
        """Return AdamW over everything that trains; a learned logit scale never decays."""
        groups: list[dict[str, Any]] = [
            {
                "name": "embeddings",
                "params": [self.trained_weight],
                "weight_decay": self.weight_decay,
            }
        ]
        if self.encoder_weights:
            groups.append(
                {
                    "name": "text_encoder",
                    "params": self.encoder_weights,
                    "weight_decay": self.weight_decay,
                    "lr": self.tuning.learning_rate,
                }
            )
        if self.logit_scale.requires_grad:
            groups.append(
                {"name": "logit_scale", "params": [self.logit_scale], "weight_decay": 0.0}
            )
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate)
        scheduler = learning_rate_schedule(
            optimizer, schedule=self.schedule, steps=self.steps, warmup_steps=self.warmup_steps
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def _vocabulary_norm(embeddings: ConceptEmbeddings) -> float:
    """Return the mean norm of the token table's rows that belong to no concept."""
    table_VD = embeddings.embedding.weight.detach()
    known = torch.ones(len(table_VD), dtype=torch.bool)
    known[embeddings.flat_ids.cpu()] = False
    return float(table_VD[known.to(table_VD.device)].float().norm(dim=1).mean())
