"""Stage 2: the text-to-image decoder learns all concepts together (CLIF, section 4.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clif_exp.artifacts.store import process_rank
from clif_exp.base_models import loading
from clif_exp.base_models.layerwise import (
    LayerwiseEmbeddings,
    TrainedEmbeddings,
    cross_attention_layers,
    save_layerwise_embeddings,
    slice_text,
)
from clif_exp.base_models.loading import text_encoders_of
from clif_exp.base_models.text_layers import freeze_unread
from clif_exp.base_models.text_tuning import (
    copy_text_tuning,
    make_trainable,
    read_text_lora,
    save_text_tuning,
    tower,
    tuned_state,
)
from clif_exp.base_models.tokens import EMBEDDINGS_FILE, save_concept_embeddings
from clif_exp.base_models.unet_tuning.registry import save_unet_tuning
from clif_exp.diffusion import frozen_parts
from clif_exp.diffusion.attention_loss import AttentionLoss, concept_positions
from clif_exp.diffusion.batches import MixedBatches, Mixture
from clif_exp.diffusion.callbacks import training_callbacks
from clif_exp.diffusion.concept_tokens import TokenIds, insert_concepts, published_embeddings
from clif_exp.diffusion.counterparts import counterparts
from clif_exp.diffusion.encoding import encode_inputs
from clif_exp.diffusion.images import at_scales, training_images
from clif_exp.diffusion.module import DiffusionModule, DiffusionOptimisation
from clif_exp.diffusion.targets import noise_schedule
from clif_exp.training.fit import fit, quiet_lightning

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from clif_exp.base_models.spec import BaseModels
    from clif_exp.base_models.text_tuning import TextTuning
    from clif_exp.base_models.unet_tuning.kind import UNetTuning
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.diffusion.images import TrainingImage
    from clif_exp.diffusion.settings import DiffusionSettings
    from clif_exp.training.settings import TrainerSettings

# What a user can lower when memory runs out, the cheapest first. Checkpointing changes no result,
# so a run that ran out of memory can resume with it.
_LOWER = (
    "what a step holds: diffusion.gradient_checkpointing=true or a higher diffusion.accumulate,"
    " then diffusion.batch_size or model.resolution (conf/diffusion/low_memory.yaml has recipes)"
)
_LOG = logging.getLogger(__name__)


def train_diffusion(
    out: Path,
    *,
    spec: BaseModels,
    concepts: ConceptSet,
    manifest: Path | None,
    segments: Path | None,
    embeddings: Path | None,
    trainer: TrainerSettings,
    seed: int,
    settings: DiffusionSettings,
    prior: Sequence[Path] = (),
    position: int = 0,
    loggers: Sequence[Logger] = (),
) -> None:
    """Train the U-Net and, optionally, the concept embeddings on single images and M pairs.

    Publishes what was trained in the U-Net (`base_models.unet_tuning`),
    concept_embeddings.safetensors, what stage 1 changed in the text encoders, metrics.csv (step,
    loss, validation_loss, lr, gradient_norm) and samples/step_NNNNNN.png.

    Args:
        out: the stage's folder; a killed run's partial work in it is finished.
        spec: resolved base models.
        concepts: what is customised.
        manifest: folder of the M pairs, or None (no mixing).
        segments: folder of curation's segments: masks, and where marked concepts are; or None.
        embeddings: file of stage 1, or None: embeddings start from the class words. What stage 1
            changed in the text encoders is read from the same folder.
        trainer: how to run.
        seed: of everything random.
        settings: what to train, and how.
        prior: folders of the base model's own images.
        position: of the concept among those that are customised apart.
        loggers: they get curve and sample grids while training goes on.

    Raises:
        ValueError: settings that the base model has no place for, broken inputs, or a loss that is
            not finite.
        TimeBudgetExhausted: `trainer.max_time` ran out; the same call resumes.
    """
    quiet_lightning()
    dtype = torch.float32 if settings.unet == "weights" else frozen_parts.base_dtype(trainer)
    pipeline = loading.load_pipeline(spec, device=trainer.device, dtype=dtype)
    token_ids = insert_concepts(
        pipeline,
        concepts,
        embeddings=embeddings,
        tokens=settings.new_tokens(),
        world=spec.record.world,
        seed=seed,
    )
    if (text_tuning := settings.text_tuning()) is not None:
        for name, (_, encoder) in text_encoders_of(pipeline).items():
            make_trainable(tower(encoder), tuning=text_tuning, seed=seed)
            layers = encoder.config.num_hidden_layers
            freeze_unread(tower(encoder), read=spec.record.layers_read(name, layers=layers))
    tuning = settings.unet_tuning(position=position)
    images = training_images(concepts, manifest=manifest, segments=segments, prior=prior)
    if settings.prior_target == "counterparts" and settings.prior_share:
        images += counterparts(images, concepts=concepts)
    if (scales := settings.scale_augmentation) is not None:
        images = at_scales(images, variants=scales.variants, seed=seed)
    module, batches = _prepare(
        pipeline,
        images,
        spec=spec,
        token_ids=token_ids,
        stage_1=embeddings is not None,
        tuning=tuning,
        trainer=trainer,
        seed=seed,
        settings=settings,
    )
    fit(
        module,
        out=out,
        make_batch=batches,
        steps=settings.steps,
        settings=trainer,
        metrics=["loss", "validation_loss", "lr"],
        run_key={
            "settings": settings.relevant(),
            "batch": batches.size,
            "seed": seed,
            "captions": batches.captions,
        },
        gradient_clip=settings.gradient_clip,
        accumulate=settings.accumulate,
        hint=_LOWER,
        images_per_step=batches.size,
        loggers=loggers,
        callbacks=training_callbacks(
            pipeline, concepts, batches=batches, out=out, settings=settings
        ),
    )
    if process_rank() > 0:
        return
    _publish(
        out,
        pipeline,
        token_ids=token_ids,
        trained=module.embeddings,
        embeddings=embeddings,
        tuning=tuning,
        text_tuning=text_tuning,
    )


def _prepare(
    pipeline: Any,
    images: list[TrainingImage],
    *,
    spec: BaseModels,
    token_ids: TokenIds,
    stage_1: bool,
    tuning: UNetTuning | None,
    trainer: TrainerSettings,
    seed: int,
    settings: DiffusionSettings,
) -> tuple[DiffusionModule, MixedBatches]:
    """Encode what stays the same, make the U-Net ready to train, and say what a step does."""
    # Of stage 1's tokens all train on.
    learnt = (None if stage_1 else settings.num_tokens) if settings.train_embeddings else 0
    inputs = encode_inputs(
        pipeline,
        images,
        spec=spec,
        token_ids=token_ids,
        learnt=learnt,
        layers=len(cross_attention_layers(pipeline.unet)) if settings.layerwise else None,
        flip=settings.flip,
        background=settings.background_weight if settings.masked_loss else None,
        masks=settings.attention_regularisation > 0,
    )
    if settings.layerwise:
        slice_text(pipeline.unet, tokens=pipeline.tokenizer.model_max_length)
    frozen_parts.offload(pipeline, text_too=not settings.train_embeddings)
    _prepare_unet(pipeline.unet, tuning=tuning, trainer=trainer, seed=seed, settings=settings)
    frozen_parts.store_frozen(pipeline, dtype=frozen_parts.base_dtype(trainer))
    schedule = noise_schedule(pipeline.scheduler)
    module = DiffusionModule(
        pipeline.unet,
        schedule=schedule,
        text=inputs.text,
        embeddings=inputs.embeddings,
        encoded=inputs.captions_encoded,
        caption_ids=inputs.caption_ids,
        optimisation=_optimisation(settings),
        compiled=settings.compile,
        teacher=tuning if settings.has_teacher else None,
        attention=(
            AttentionLoss(
                settings.attention_regularisation,
                concept_positions(inputs.caption_ids["text_encoder"], token_ids["text_encoder"]),
            )
            if settings.attention_regularisation
            else None
        ),
    )
    batches = MixedBatches(
        images,
        inputs.latents_NCHW,
        inputs.weights_N1HW,
        _mixture(settings, seed=seed),
        num_timesteps=schedule.num_timesteps,
        captions=inputs.captions,
        offset_noise=settings.offset_noise,
        timestep_bias=settings.timestep_bias,
        masks_N1HW=inputs.masks_N1HW,
        shares=trainer.ranks * settings.accumulate,
    )
    _LOG.info(
        "Diffusion stage: %d steps of %d images, %d images in all.",
        settings.steps,
        batches.size,
        len(images),
    )
    return module, batches


def _prepare_unet(
    unet: Any,
    *,
    tuning: UNetTuning | None,
    trainer: TrainerSettings,
    seed: int,
    settings: DiffusionSettings,
) -> None:
    frozen_parts.set_attention(unet, settings.attention)
    if tuning is not None:
        tuning.prepare(unet, seed=seed)
    if settings.detach_start_of_text:
        frozen_parts.detach_start_of_text(unet)
    if (autocast := frozen_parts.autocast_dtype(trainer)) is not None:
        frozen_parts.store_in_autocast_dtype(unet, dtype=autocast)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()


def _mixture(settings: DiffusionSettings, *, seed: int) -> Mixture:
    return Mixture(
        settings.batch_size,
        settings.pair_share,
        settings.prior_share,
        caption_dropout=settings.caption_dropout,
        flip=settings.flip,
        seed=seed,
    )


def _optimisation(settings: DiffusionSettings) -> DiffusionOptimisation:
    return DiffusionOptimisation(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        embedding_learning_rate=settings.embedding_learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        schedule=settings.schedule,
        min_snr_gamma=settings.min_snr_gamma,
        ema_decay=settings.ema_decay,
        optimizer=settings.optimizer,
        text_learning_rate=settings.text_lora.learning_rate if settings.text_lora else None,
        embedding_norm_limit=settings.embedding_norm_limit,
        prior_loss_weight=settings.prior_loss_weight,
    )


def _publish(
    out: Path,
    pipeline: Any,
    *,
    token_ids: TokenIds,
    trained: Mapping[str, TrainedEmbeddings],
    embeddings: Path | None,
    tuning: UNetTuning | None,
    text_tuning: TextTuning | None,
) -> None:
    """Write what generation, export and evaluation read; they read no other stage's folder."""
    stage_1 = embeddings.parent if embeddings is not None else None
    if stage_1:
        copy_text_tuning(stage_1, out)
    if text_tuning is not None:
        states = {
            name: tuned_state(tower(encoder), tuning=text_tuning)
            for name, (_, encoder) in text_encoders_of(pipeline).items()
        }
        save_text_tuning(out, states, tuning=text_tuning)
    save_unet_tuning(
        out,
        unet=pipeline.unet,
        tuning=tuning,
        pipeline_class=type(pipeline),
        text_lora=read_text_lora(out),
    )
    for held in trained.values():
        held.detach()
    published = published_embeddings(pipeline, token_ids, trained=trained, embeddings=embeddings)
    if any(isinstance(held, LayerwiseEmbeddings) for held in trained.values()):
        save_layerwise_embeddings(out, published)
    else:
        save_concept_embeddings(out / EMBEDDINGS_FILE, published)
