"""Stage 1: contrastive fine-tuning of the concept tokens on G and R pairs (CLIF, section 4.2)."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from torch import Tensor

    from clif_exp.base_models.spec import BaseModels
    from clif_exp.base_models.text_tuning import TextTuning
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.contrastive.batches import PairBatches
    from clif_exp.contrastive.module import ContrastiveModule
    from clif_exp.contrastive.pairs import Pair
    from clif_exp.contrastive.settings import ContrastiveSettings
    from clif_exp.contrastive.tower import TextTower
    from clif_exp.training.settings import TrainerSettings

_LOG = logging.getLogger(__name__)


def train_contrastive(
    out: Path,
    *,
    spec: BaseModels,
    concepts: ConceptSet,
    manifests: Mapping[str, Path],
    trainer: TrainerSettings,
    features: Path | None,
    seed: int,
    settings: ContrastiveSettings,
    loggers: Callable[[str], Sequence[Logger]] = lambda _encoder: (),
) -> None:
    """Train the concept embeddings, and optionally the text encoders, and publish them.

    Writes concept_embeddings.safetensors, text_encoder_lora.safetensors or
    text_encoder_weights.safetensors if an encoder was trained, metrics.csv (step, loss,
    loss_frozen_rows, lr, gradient_norm; one file per further encoder) and embedding_report.json.
    With no manifests, or steps=0, the embeddings stay at their class words.

    Args:
        out: the stage's folder; a killed run's partial work in it is finished.
        spec: resolved base models.
        concepts: what is customised.
        manifests: "G", "R" -> folder of that augmentation; a missing kind is ablated.
        trainer: how to run.
        features: folder of `features.cache_image_features`; None: they are computed here.
        seed: of the order of pairs.
        settings: stage 1's; `reconstruction` is a stage of its own and not read here.
        loggers: of an encoder's curve, which they get while training goes on.

    Raises:
        ValueError: broken manifests, an unfit CLIP checkpoint, a loss that is not finite.
        TimeBudgetExhausted: `trainer.max_time` ran out; the same call resumes.
    """
    from clif_exp.artifacts.store import process_rank
    from clif_exp.base_models.text_tuning import save_text_tuning
    from clif_exp.base_models.tokens import EMBEDDINGS_FILE, save_concept_embeddings
    from clif_exp.contrastive.pairs import read_pairs
    from clif_exp.contrastive.tower import TextTower

    class_words = {concept.name: concept.class_word for concept in concepts.concepts}
    pairs = read_pairs(manifests, names=set(class_words)) if manifests and settings.steps else []
    embeddings, reports, trained = {}, {}, {}
    for encoder in spec.contrastive:
        work = out if encoder == "text_encoder" else out / encoder
        trains = bool(pairs) and encoder in (settings.encoders or spec.contrastive)
        tower = TextTower(
            spec,
            encoder,
            class_words=class_words,
            num_tokens=settings.num_tokens,
            device=trainer.device,
            basis=settings.basis if trains else None,  # whose mean stands for no concept
        )
        if trains:
            trained[encoder] = _train_tower(
                tower,
                pairs,
                work,
                cache=(features or out / "features") / encoder,
                trainer=trainer,
                seed=seed,
                settings=settings,
                loggers=loggers(encoder),
            )
        if settings.control == "random_rows":
            tower.displace_at_random(seed=seed)
        embeddings[encoder] = tower.embeddings.by_concept()
        reports[encoder] = tower.report() | _final_losses(work / "metrics.csv")
    if process_rank() > 0:
        return
    save_concept_embeddings(out / EMBEDDINGS_FILE, embeddings)
    save_text_tuning(out, trained, tuning=_tuning(settings))
    (out / "embedding_report.json").write_text(json.dumps(reports, indent=1))
    for encoder, report in reports.items():
        _warn_outside(report, encoder=encoder)


def _warn_outside(report: Mapping[str, Any], *, encoder: str) -> None:
    """Warn about concepts whose embeddings have left the vocabulary."""
    if not report["outside_vocabulary"]:
        return
    _LOG.warning(
        "contrastive: in %s the embeddings of %s have left the vocabulary (norms beyond"
        " %.3f; 95 %% of its words are within %.3f), and the U-Net may not be able to read them:"
        " lower contrastive.learning_rate or raise contrastive.norm_loss_weight.",
        encoder,
        ", ".join(report["outside_vocabulary"]),
        report["vocabulary_norm"]["limit"],
        report["vocabulary_norm"]["p95"],
    )


def _train_tower(
    tower: TextTower,
    pairs: Sequence[Pair],
    work: Path,
    *,
    cache: Path,
    trainer: TrainerSettings,
    seed: int,
    settings: ContrastiveSettings,
    loggers: Sequence[Logger],
) -> dict[str, Tensor]:
    """Train one tower in the folder `work`; return the change of its encoder, to be published."""
    tuning = _tuning(settings)
    batches, module = _prepare(
        tower,
        pairs,
        cache=cache,
        ranks=trainer.ranks,
        seed=seed,
        tuning=tuning,
        settings=settings,
    )
    before, after = _train(
        tower,
        work,
        module=module,
        batches=batches,
        trainer=trainer,
        settings=settings,
        loggers=loggers,
    )
    return _readable_change(tower, before=before, after=after, tuning=tuning)


def _tuning(settings: ContrastiveSettings) -> TextTuning:
    from clif_exp.base_models.text_tuning import TextTuning

    return TextTuning(
        train=settings.text_encoder,
        learning_rate=settings.text_encoder_learning_rate,
        rank=settings.lora.rank,
        alpha=settings.lora.alpha,
        target_modules=tuple(settings.lora.target_modules),
    )


def _prepare(
    tower: TextTower,
    pairs: Sequence[Pair],
    *,
    cache: Path,
    ranks: int,
    seed: int,
    tuning: TextTuning,
    settings: ContrastiveSettings,
) -> tuple[PairBatches, ContrastiveModule]:
    """Encode the images, unless `cache` holds them, and build the batches and the module."""
    from clif_exp.contrastive.batches import GroupedBatches, PairBatches
    from clif_exp.contrastive.features import pair_features
    from clif_exp.contrastive.module import ContrastiveModule

    cache.mkdir(parents=True, exist_ok=True)
    threshold = settings.identical_part_threshold
    image_ND, part_ND = pair_features(
        tower.clip, tower.processor, pairs, cache=cache, parts=threshold < 1.0
    )
    batches = PairBatches(
        pairs,
        order=GroupedBatches(pairs, batch_size=settings.batch_size, ranks=ranks, seed=seed),
        tokenizer=tower.tokenizer,
        token_ids=tower.embeddings.token_ids,
        pooling=settings.pooling,
        part_features_ND=part_ND,
        identical_part_threshold=threshold,
    )
    module = ContrastiveModule(
        tower.clip,
        embeddings=tower.embeddings,
        basis=tower.basis,
        image_features_ND=image_ND,
        tuning=tuning,
        seed=seed,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        schedule=settings.schedule,
        learn_logit_scale=settings.logit_scale == "learned",
        max_logit_scale=settings.max_logit_scale,
        norm_loss_weight=settings.norm_loss_weight,
    )
    return batches, module


def _train(
    tower: TextTower,
    work: Path,
    *,
    module: ContrastiveModule,
    batches: PairBatches,
    trainer: TrainerSettings,
    settings: ContrastiveSettings,
    loggers: Sequence[Logger],
) -> tuple[dict[str, Tensor] | None, dict[str, Tensor]]:
    """Train in the folder `work`, and note retrieval accuracy before and after.

    Returns:
        The text tower's weights before (None unless they train in full), and what `text_tuning`
        calls its tuned state after.
    """
    from clif_exp.contrastive.report import retrieval_accuracy
    from clif_exp.training.fit import fit, quiet_lightning

    quiet_lightning()
    work.mkdir(parents=True, exist_ok=True)
    number = len(batches.pairs)
    _LOG.info(
        "Contrastive stage: %d steps of %d pairs, %d pairs in all.",
        settings.steps,
        batches.size,
        number,
    )
    image_ND = module.image_features_ND
    before = module.trained_encoder() if settings.text_encoder == "full" else None
    tower.retrieval.append(retrieval_accuracy(module, batches, image_ND=image_ND))
    fit(
        module,
        out=work,
        make_batch=batches,
        steps=settings.steps,
        settings=trainer,
        gradient_clip=settings.gradient_clip,
        metrics=["loss", "loss_frozen_rows", "lr"],
        run_key={
            "settings": settings.relevant(),
            "batch": batches.size,
            "seed": batches.order.seed,
            "pairs": number,
            "concepts": list(tower.embeddings.token_ids),
        },
        hint="contrastive.batch_size",
        images_per_step=batches.size,
        loggers=loggers,
    )
    module.to(trainer.device)  # Lightning leaves it on the CPU.
    tower.retrieval.append(retrieval_accuracy(module, batches, image_ND=image_ND.cpu()))
    return before, module.trained_encoder()


def _readable_change(
    tower: TextTower,
    *,
    before: dict[str, Tensor] | None,
    after: dict[str, Tensor],
    tuning: TextTuning,
) -> dict[str, Tensor]:
    """Keep the layers that the pipeline has; warn about a change that its U-Net does not read."""
    from clif_exp.base_models.loading import text_layers
    from clif_exp.base_models.text_layers import unread_share, within_pipeline

    kept, read = text_layers(tower.spec, tower.encoder)
    unread = unread_share(after, before=before, read=read, alpha=tuning.alpha, rank=tuning.rank)
    tower.unread_change = unread
    if unread > 0.01:
        _LOG.warning(
            "contrastive.text_encoder=%s: %.0f %% of the change of %s lies after layer %d, the last"
            " one that the U-Net of %s reads, and has no effect. Concept embeddings take full"
            " effect.",
            tuning.train,
            100 * unread,
            tower.encoder,
            read,
            tower.spec.family,
        )
    return within_pipeline(after, layers=kept)


def _final_losses(metrics_file: Path) -> dict[str, float]:
    """Return the mean losses of the last steps, trained and with the initial embeddings.

    The latter is what context words alone reach on the same batches. A training that is too short
    to have measured it after its first step, where both are the same, has the loss of its last step
    only. Empty if nothing trained.
    """
    if not metrics_file.is_file():
        return {}
    with metrics_file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    compared = [row for row in rows[1:] if row["loss_frozen_rows"]][-5:]
    columns = ("loss", "loss_frozen_rows") if compared else ("loss",)
    last = compared or rows[-1:]
    return {
        column: round(sum(float(row[column]) for row in last) / len(last), 4)
        for column in columns
        if last
    }
