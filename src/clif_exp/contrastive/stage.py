"""Stage 1: contrastive fine-tuning of the concept tokens on G and R pairs (CLIF, section 4.2)."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from clif_exp.base_models.spec import BaseModels
    from clif_exp.base_models.text_tuning import TextTuning
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.contrastive.module import Optimisation
    from clif_exp.contrastive.pairs import Pair
    from clif_exp.contrastive.pooling import Pooling
    from clif_exp.training.settings import TrainerSettings

_LOG = logging.getLogger(__name__)


def train_contrastive(
    out: Path,
    *,
    spec: BaseModels,
    concepts: ConceptSet,
    manifests: Mapping[str, Path],
    trainer: TrainerSettings,
    features: Path | None = None,
    seed: int = 0,
    num_tokens: int = 2,
    encoders: Sequence[str] | None = None,
    steps: int = 250,
    batch_size: int = 96,
    learning_rate: float = 5e-3,
    weight_decay: float = 0.01,
    warmup_steps: int = 10,
    schedule: Literal["constant", "cosine"] = "cosine",
    gradient_clip: float | None = None,
    pooling: Mapping[str, Pooling] | None = None,
    identical_part_threshold: float = 0.97,
    logit_scale: Literal["frozen", "learned"] = "frozen",
    max_logit_scale: float = 100.0,
    norm_loss_weight: float = 0.0,
    text_encoder: Literal["frozen", "lora", "full"] = "frozen",
    text_encoder_learning_rate: float = 1e-4,
    lora: Mapping[str, Any] | None = None,
    control: Literal["random_rows"] | None = None,
) -> None:
    """Train the concepts' rows of the text encoders, and by option the encoders, and publish them.

    Writes concept_embeddings.safetensors, text_encoder_lora.safetensors or
    text_encoder_weights.safetensors if an encoder was trained, metrics.csv (step, loss,
    loss_frozen_rows, lr; one file per further encoder) and embedding_report.json. With no
    manifests, or steps=0, the rows stay where their class words put them.

    Args:
        out: the stage's folder; a killed run's partial work in it is finished.
        spec: resolved base models.
        concepts: what is customised.
        manifests: "G", "R" -> folder of that augmentation; a missing kind is ablated.
        trainer: how to run.
        features: folder of `features.cache_image_features`; None: they are computed here.
        seed: of the order of pairs.
        num_tokens: tokens per concept.
        encoders: text encoders that are trained, all if None; the others' rows stay at their class
            words.
        steps: optimiser steps.
        batch_size: pairs per step over all ranks.
        learning_rate: AdamW's, for the rows.
        weight_decay: AdamW's, on what trains.
        warmup_steps: linear warm-up.
        schedule: "constant" or "cosine".
        gradient_clip: gradient norm, or None.
        pooling: kind -> "eos" or "concept"; default "eos" for both.
        identical_part_threshold: image cosine from which parts of different concepts are not told apart.
        logit_scale: "frozen" or "learned" inverse temperature.
        max_logit_scale: a learned one's cap.
        norm_loss_weight: weight of the term that keeps rows near the vocabulary's norm.
        text_encoder: what trains beside the rows: nothing, a LoRA, or everything but the other
            rows.
        text_encoder_learning_rate: AdamW's, for that.
        lora: `rank`, `alpha`, `target_modules` of the LoRA.
        control: "random_rows" replaces what the rows learnt by a random spread of equal size.

    Raises:
        ValueError: broken manifests, an unfit CLIP checkpoint, a loss that is not finite.
        TimeBudgetExhausted: `trainer.max_time` ran out; the same call goes on.
    """
    from clif_exp.artifacts.store import process_rank
    from clif_exp.base_models.text_tuning import TextTuning, save_text_tuning
    from clif_exp.base_models.tokens import EMBEDDINGS_FILE, save_concept_embeddings
    from clif_exp.contrastive.module import Optimisation
    from clif_exp.contrastive.pairs import read_pairs

    out = Path(out)
    class_words = {concept.name: concept.class_word for concept in concepts.concepts}
    pairs = read_pairs(manifests, names=set(class_words)) if manifests and steps else []
    tuning = TextTuning(text_encoder, text_encoder_learning_rate, **_lora_settings(lora))
    optimisation = Optimisation(
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        schedule=schedule,
        logit_scale=logit_scale,
        max_logit_scale=max_logit_scale,
        norm_loss_weight=norm_loss_weight,
        tuning=tuning,
    )
    embeddings, reports, states = {}, {}, {}
    for encoder in spec.contrastive:
        tower = _Tower(
            spec,
            encoder,
            class_words=class_words,
            num_tokens=num_tokens,
            pairs=pairs if encoders is None or encoder in encoders else [],
            device=trainer.device,
            features=features or out / "features",
        )
        if tower.pairs:
            states[encoder] = tower.train(
                out if encoder == "text_encoder" else out / encoder,
                optimisation=optimisation,
                trainer=trainer,
                seed=seed,
                pooling={"G": "eos", "R": "eos", **(pooling or {})},
                identical_part_threshold=identical_part_threshold,
                batch_size=batch_size,
                gradient_clip=gradient_clip,
            )
        if control == "random_rows":
            tower.spread_at_random(seed=seed)
        embeddings[encoder], reports[encoder] = tower.rows.rows(), tower.report()
        reports[encoder] |= _shortcut(
            out / "metrics.csv" if encoder == "text_encoder" else out / encoder / "metrics.csv"
        )
    if process_rank() > 0:
        return
    save_concept_embeddings(out / EMBEDDINGS_FILE, embeddings)
    save_text_tuning(out, states, tuning=tuning)
    (out / "embedding_report.json").write_text(json.dumps(reports, indent=1))


def _lora_settings(lora: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        key: tuple(value) if key == "target_modules" else value
        for key, value in (lora or {}).items()
    }


class _Tower:
    """One text encoder with its CLIP: the concepts' rows in it, their training, and what there is
    to say of both.
    """

    def __init__(
        self,
        spec: BaseModels,
        encoder: str,
        *,
        class_words: Mapping[str, str],
        num_tokens: int,
        pairs: Sequence[Pair],
        device: str,
        features: Path,
    ) -> None:
        from clif_exp.base_models.loading import load_contrastive
        from clif_exp.base_models.tokens import ConceptRows, add_concept_tokens

        self.spec, self.encoder, self.pairs, self.features = spec, encoder, list(pairs), features
        self.clip, self.tokenizer, self.processor = load_contrastive(spec, encoder, device=device)
        self.table_VD = self.clip.text_model.get_input_embeddings().weight.detach().clone()
        self.words = {
            i: token
            for token, i in self.tokenizer.get_vocab().items()
            if token.endswith("</w>") and len(token) > 5
        }
        token_ids = add_concept_tokens(
            self.tokenizer, self.clip.text_model, concepts=class_words, num_tokens=num_tokens
        )
        self.rows = ConceptRows(self.clip.text_model, token_ids=token_ids)
        self.rows_before = self.rows.rows()
        self.text_before = self._text_features()
        self.mistaken: list[dict[str, Any]] = []
        self.unread = 0.0

    def train(
        self,
        work: Path,
        *,
        optimisation: Optimisation,
        trainer: TrainerSettings,
        seed: int,
        pooling: Mapping[str, Pooling],
        identical_part_threshold: float,
        batch_size: int,
        gradient_clip: float | None,
    ) -> dict[str, Tensor]:
        """Train, and return what changed in the encoder beside the rows."""
        from clif_exp.contrastive.batches import GroupedBatches, PairBatches
        from clif_exp.contrastive.features import pair_features
        from clif_exp.contrastive.module import ContrastiveModule
        from clif_exp.training.fit import fit, quiet_lightning

        quiet_lightning()
        work.mkdir(parents=True, exist_ok=True)
        cache = self.features / self.encoder
        image_ND, part_ND = pair_features(
            self.clip, self.processor, self.pairs, cache=cache, parts=identical_part_threshold < 1.0
        )
        order = GroupedBatches(
            self.pairs, batch_size=batch_size, ranks=trainer.devices * trainer.num_nodes, seed=seed
        )
        batches = PairBatches(
            self.pairs,
            order=order,
            tokenizer=self.tokenizer,
            token_ids=self.rows.token_ids,
            pooling=pooling,
            part_features_ND=part_ND,
            identical_part_threshold=identical_part_threshold,
        )
        module = ContrastiveModule(
            self.clip,
            rows=self.rows,
            image_features_ND=image_ND,
            optimisation=optimisation,
            seed=seed,
        )
        _LOG.info(
            "Contrastive stage: %d steps of %d pairs, %d pairs in all.",
            optimisation.steps,
            batches.size,
            len(self.pairs),
        )
        run_key = {
            "optimisation": asdict(optimisation),
            "batch": batches.size,
            "seed": seed,
            "pairs": len(self.pairs),
        }
        before = module.trained_encoder() if optimisation.tuning.train == "full" else None
        self.mistaken.append(self._mistaken(module, batches, image_ND))
        fit(
            module,
            out=work,
            make_batch=batches,
            steps=optimisation.steps,
            settings=trainer,
            gradient_clip=gradient_clip,
            metrics=["loss", "loss_frozen_rows", "lr"],
            run_key=run_key | {"concepts": list(self.rows.token_ids)},
        )
        module.to(trainer.device)  # Lightning leaves it on the CPU
        self.mistaken.append(self._mistaken(module, batches, image_ND))
        return self._carried_over(
            module.trained_encoder(), before=before, tuning=optimisation.tuning
        )

    def _carried_over(
        self, state: dict[str, Tensor], *, before: dict[str, Tensor] | None, tuning: TextTuning
    ) -> dict[str, Tensor]:
        """Keep what the pipeline's encoder has room for, and say how much of what was learnt its
        U-Net will not read.
        """
        from clif_exp.base_models.loading import text_layers
        from clif_exp.base_models.text_tuning import unread_share, within_pipeline

        kept, read = text_layers(self.spec, self.encoder)
        self.unread = unread_share(
            state, before=before, read=read, alpha=tuning.alpha, rank=tuning.rank
        )
        if self.unread > 0.01:
            _LOG.warning(
                "contrastive.text_encoder=%s: %.0f %% of the change of %s lies behind layer %d, the"
                " last one that the U-Net of %s reads, and is lost on it. Rows carry over in full.",
                tuning.train,
                100 * self.unread,
                self.encoder,
                read,
                self.spec.family,
            )
        return within_pipeline(state, layers=kept)

    def spread_at_random(self, *, seed: int) -> None:
        """Put a random spread of equal size in place of what the rows learnt."""
        import torch

        from clif_exp.contrastive.report import random_rows

        spread = random_rows(before=self.rows_before, after=self.rows.rows(), seed=seed)
        with torch.no_grad():
            self.rows.weight.copy_(torch.cat(list(spread.values())))
        self.mistaken = []

    def _text_features(self) -> dict[str, Tensor]:
        """Return concept -> feature of "a photo of <concept>", L2-normalised, float32 [D], as
        encoder and rows are now.
        """
        import torch

        from clif_exp.base_models.tokens import tokenize
        from clif_exp.contrastive.pooling import cut_padding, eos_positions, pool

        counts = {name: len(ids) for name, ids in self.rows.token_ids.items()}
        ids_NL = tokenize(
            self.tokenizer, [f"a photo of <{name}>" for name in counts], num_tokens=counts
        )
        ids_NL = cut_padding(ids_NL, eos_id=self.tokenizer.eos_token_id).to(self.table_VD.device)
        positions_N = eos_positions(ids_NL, eos_id=self.tokenizer.eos_token_id)
        with torch.no_grad():
            hidden_NLD = self.clip.text_model(input_ids=ids_NL).last_hidden_state
            features_ND = self.clip.text_projection(pool(hidden_NLD, positions_N)).float().cpu()
        return dict(zip(counts, torch.nn.functional.normalize(features_ND, dim=-1), strict=True))

    def _mistaken(self, module, batches, image_ND: Tensor) -> dict[str, Any]:
        from clif_exp.contrastive.report import mistaken_pairs

        return mistaken_pairs(module, batches, image_ND=image_ND)

    def report(self) -> dict[str, Any]:
        """Describe what became of the concepts, before and after."""
        from clif_exp.contrastive.report import embedding_report

        rows = {"before": self.rows_before, "after": self.rows.rows()}
        text = {"before": self.text_before, "after": self._text_features()}
        described = embedding_report(rows, text=text, table_VD=self.table_VD, words=self.words)
        if self.mistaken:
            described["mistaken"] = dict(zip(("before", "after"), self.mistaken, strict=True))
        return described | {"unread_change": round(self.unread, 4)}


def _shortcut(metrics_file: Path) -> dict:
    """Return mean losses over the last steps: trained, and with frozen rows on the same batches
    (the context shortcut).
    """
    if not metrics_file.is_file():
        return {}
    with metrics_file.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["loss_frozen_rows"]][-5:]
    if not rows:
        return {}
    return {
        "loss": round(sum(float(row["loss"]) for row in rows) / len(rows), 4),
        "loss_frozen_rows": round(
            sum(float(row["loss_frozen_rows"]) for row in rows) / len(rows), 4
        ),
    }
