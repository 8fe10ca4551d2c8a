"""Stage 1: contrastive fine-tuning of the concept tokens on G and R pairs (CLIF, section 4.2)."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from clif_exp.backbones import BackboneSpec
    from clif_exp.concepts import ConceptSet
    from clif_exp.contrastive.pairs import Pair
    from clif_exp.contrastive.pooling import Pooling
    from clif_exp.trainer import TrainerSettings

VERSION = 1
_LOG = logging.getLogger(__name__)


def train_contrastive(
    out: Path,
    *,
    spec: BackboneSpec,
    concepts: ConceptSet,
    manifests: Mapping[str, Path],
    trainer: TrainerSettings,
    seed: int = 0,
    num_tokens: int = 2,
    steps: int = 250,
    batch_size: int = 96,
    learning_rate: float = 5e-3,
    weight_decay: float = 0.01,
    warmup_steps: int = 10,
    schedule: Literal["constant", "cosine"] = "cosine",
    pooling: Mapping[str, Pooling] | None = None,
    identical_parts: float = 0.97,
    scale: Literal["frozen", "learned"] = "frozen",
    max_scale: float = 100.0,
    norm_weight: float = 0.0,
    control: Literal["random_rows"] | None = None,
) -> None:
    """Train the concepts' rows of every text encoder and publish them.

    Writes concept_embeddings.safetensors, metrics.csv (step, loss, loss_frozen_rows, lr; one file per further encoder) and
    embedding_report.json. With no manifests, or steps=0, the rows stay where their class words put them.

    Args:
        out: the stage's folder; a killed run's partial work in it is finished.
        spec: resolved base models.
        concepts: what is customised.
        manifests: "G", "R" -> folder of that augmentation; a missing kind is ablated.
        trainer: how to run.
        seed: of the order of pairs.
        num_tokens: tokens per concept.
        steps: optimiser steps.
        batch_size: pairs per step over all ranks.
        learning_rate: AdamW's.
        weight_decay: AdamW's, on the concepts' rows.
        warmup_steps: linear warm-up.
        schedule: "constant" or "cosine".
        pooling: kind -> "eos" or "concept"; default "eos" for both.
        identical_parts: image cosine from which parts of different concepts are not told apart.
        scale: "frozen" or "learned" inverse temperature.
        max_scale: its cap.
        norm_weight: weight of the term that keeps rows near the vocabulary's norm.
        control: "random_rows" replaces what was learnt by a random spread of equal size.

    Raises:
        ValueError: broken manifests, an unfit CLIP checkpoint, a loss that is not finite.
        TimeBudgetExhausted: `trainer.max_time` ran out; the same call goes on.
    """
    from clif_exp.artifacts import process_rank
    from clif_exp.backbones import load_contrastive
    from clif_exp.contrastive.module import Optimisation
    from clif_exp.contrastive.pairs import read_pairs
    from clif_exp.contrastive.report import embedding_report, random_rows
    from clif_exp.tokens import ConceptRows, add_concept_tokens, save_concept_embeddings

    out = Path(out)
    class_words = {concept.name: concept.class_word for concept in concepts.concepts}
    pairs = read_pairs(manifests, names=set(class_words)) if manifests and steps else []
    pooling = {"G": "eos", "R": "eos", **(pooling or {})}
    optimisation = Optimisation(
        steps=steps, learning_rate=learning_rate, weight_decay=weight_decay, warmup_steps=warmup_steps,
        schedule=schedule, scale=scale, max_scale=max_scale, norm_weight=norm_weight,
    )  # fmt: skip
    embeddings, reports = {}, {}
    for encoder in spec.contrastive:
        clip, tokenizer, processor = load_contrastive(spec, encoder, device=trainer.device)
        table = clip.text_model.get_input_embeddings().weight.detach().clone()
        words = {i: token for token, i in tokenizer.get_vocab().items() if token.endswith("</w>") and len(token) > 5}
        token_ids = add_concept_tokens(tokenizer, clip.text_model, concepts=class_words, num_tokens=num_tokens)
        rows = ConceptRows(clip.text_model, token_ids=token_ids)
        before = rows.rows()
        if pairs:
            work = out if encoder == "text_encoder" else out / encoder
            batches = _Batches(
                pairs, clip=clip, processor=processor, tokenizer=tokenizer, token_ids=token_ids, pooling=pooling,
                identical_parts=identical_parts, batch_size=batch_size, ranks=trainer.devices * trainer.num_nodes, seed=seed,
                cache=out / "cache" / encoder,
            )  # fmt: skip
            _train(work, clip=clip, rows=rows, batches=batches, optimisation=optimisation, trainer=trainer, seed=seed)
        after = rows.rows()
        if control == "random_rows":
            after = random_rows(before=before, after=after, seed=seed)
        embeddings[encoder] = after
        reports[encoder] = embedding_report(before=before, after=after, table_VD=table, words=words)
        reports[encoder] |= _shortcut(out / encoder / "metrics.csv" if encoder != "text_encoder" else out / "metrics.csv")
    if process_rank() > 0:
        return
    save_concept_embeddings(out / "concept_embeddings.safetensors", embeddings)
    (out / "embedding_report.json").write_text(json.dumps(reports, indent=1))


def _train(work: Path, *, clip, rows, batches: _Batches, optimisation, trainer: TrainerSettings, seed: int) -> None:
    from clif_exp.contrastive.module import ContrastiveModule
    from clif_exp.trainer import fit, quiet_lightning

    quiet_lightning()
    work.mkdir(parents=True, exist_ok=True)
    module = ContrastiveModule(clip, rows=rows, image_features_ND=batches.image_features_ND, optimisation=optimisation)
    _LOG.info("Contrastive stage: %d steps of %d pairs, %d pairs in all.", optimisation.steps, batches.size, len(batches.pairs))
    run_key = {"optimisation": asdict(optimisation), "batch": batches.size, "seed": seed, "pairs": len(batches.pairs)}
    fit(
        module, out=work, make_batch=batches, steps=optimisation.steps, settings=trainer,
        metrics=["loss", "loss_frozen_rows", "lr"], run_key=run_key | {"concepts": list(rows.token_ids)},
    )  # fmt: skip


class _Batches:
    """Makes the batch of a step: token ids, positions to read, targets, indices of image features."""

    def __init__(
        self, pairs: Sequence[Pair], *, clip, processor, tokenizer, token_ids: Mapping[str, Sequence[int]],
        pooling: Mapping[str, Pooling], identical_parts: float, batch_size: int, ranks: int, seed: int, cache: Path,
    ) -> None:  # fmt: skip
        from clif_exp.contrastive.batches import GroupedBatches
        from clif_exp.contrastive.features import image_features
        from clif_exp.tokens import tokenize

        self.pairs, self.pooling, self.identical_parts = pairs, pooling, identical_parts
        self.order = GroupedBatches(pairs, batch_size=batch_size, ranks=ranks, seed=seed)
        self.eos_id = tokenizer.eos_token_id
        self.ids_NL = tokenize(tokenizer, [pair.caption for pair in pairs], num_tokens={name: len(ids) for name, ids in token_ids.items()})
        self.positions_N = self._positions(tokenizer, token_ids)
        self.image_features_ND = image_features(clip, processor, [(pair.file, None) for pair in pairs], cache=cache)
        self.part_features_ND = None
        if identical_parts < 1.0 and any(pair.meta.part for pair in pairs):
            boxed = [(pair.file, pair.box if pair.meta.part else None) for pair in pairs]
            self.part_features_ND = image_features(clip, processor, boxed, cache=cache)

    @property
    def size(self) -> int:
        return self.order.batch_size

    def _positions(self, tokenizer, token_ids: Mapping[str, Sequence[int]]) -> torch.Tensor:
        import torch

        from clif_exp.contrastive.pooling import concept_position, eos_positions

        positions = eos_positions(self.ids_NL, eos_id=self.eos_id)
        for index, pair in enumerate(self.pairs):
            if self.pooling[pair.group[0]] == "concept":
                part = tokenizer(pair.meta.part, add_special_tokens=False).input_ids if pair.meta.part else ()
                positions[index] = concept_position(self.ids_NL[index].tolist(), concept_ids=token_ids[pair.meta.concept], part_ids=part)
        return torch.as_tensor(positions)

    def __call__(self, step: int) -> dict:
        import torch

        from clif_exp.contrastive.pooling import cut_padding
        from clif_exp.contrastive.targets import contrastive_targets

        indices = self.order(step)
        chosen = torch.tensor(indices)
        targets = contrastive_targets(
            [self.pairs[i].meta for i in indices],
            pooling=[self.pooling[self.pairs[i].group[0]] for i in indices],
            part_features_ND=None if self.part_features_ND is None else self.part_features_ND[chosen],
            identical_parts=self.identical_parts,
        )
        return {
            "step": step,
            "indices": chosen,
            "ids": cut_padding(self.ids_NL[chosen], eos_id=self.eos_id),
            "positions": self.positions_N[chosen],
            "targets": targets,
            "captions": [self.pairs[i].caption for i in indices],
        }


def _shortcut(metrics_file: Path) -> dict:
    """Return mean losses over the last steps: trained, and with frozen rows on the same batches (the context shortcut)."""
    if not metrics_file.is_file():
        return {}
    with metrics_file.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["loss_frozen_rows"]][-5:]
    if not rows:
        return {}
    return {
        "loss": round(sum(float(row["loss"]) for row in rows) / len(rows), 4),
        "loss_frozen_rows": round(sum(float(row["loss_frozen_rows"]) for row in rows) / len(rows), 4),
    }
