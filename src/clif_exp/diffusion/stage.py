"""Stage 2: the text-to-image decoder learns all concepts together (CLIF, section 4.3)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.diffusion.data import MixedBatches, TrainingImage
    from clif_exp.training.settings import TrainerSettings

# What a user can lower when memory runs out, the cheapest first; checkpointing changes no result,
# so the run goes on with it.
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
    seed: int = 0,
    num_tokens: int = 2,
    rank: int = 16,
    alpha: float = 16.0,
    target_modules: Sequence[str] = ("to_q", "to_k", "to_v", "to_out.0"),
    train_embeddings: bool = False,
    steps: int = 500,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    embedding_learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    warmup_steps: int = 10,
    schedule: Literal["constant", "cosine"] = "cosine",
    gradient_clip: float | None = 1.0,
    pair_share: float = 0.5,
    caption_dropout: float = 0.0,
    flip: bool = False,
    masked_loss: bool = False,
    background_weight: float = 0.1,
    min_snr_gamma: float | None = None,
    offset_noise: float = 0.0,
    timestep_bias: float = 1.0,
    prior_share: float = 0.0,
    prior_images: int = 32,
    ema_decay: float = 0.0,
    gradient_checkpointing: bool = False,
    accumulate: int = 1,
    optimizer: Literal["adamw", "adamw8bit"] = "adamw",
    attention: Literal["auto", "sdpa", "plain"] = "auto",
    compile: bool = False,
    validation: Mapping[str, int] | None = None,
    samples: Mapping[str, Any] | None = None,
) -> None:
    """Train one LoRA (and, by option, the concepts' rows) on single images and M pairs, and
    publish them.

    Writes pytorch_lora_weights.safetensors (unless rank is 0), concept_embeddings.safetensors,
    metrics.csv (step, loss, validation_loss, lr) and samples/step_NNNNNN.png.

    Args:
        out: the stage's folder; a killed run's partial work in it is finished.
        spec: resolved base models.
        concepts: what is customised.
        manifest: folder of the M pairs, or None (no mixing).
        segments: folder of curation's segments, whose masks a masked loss uses; or None.
        embeddings: file of stage 1, or None: rows start from the class words. What stage 1 changed
            in the text encoders lies beside it, is put into them and published again.
        trainer: how to run.
        seed: of everything random.
        num_tokens: tokens per concept if `embeddings` is None.
        rank: of the LoRA; 0 trains no LoRA (textual inversion, with `train_embeddings`).
        alpha: the LoRA's update is scaled by alpha / rank.
        target_modules: endings of the layers that get it.
        train_embeddings: train the concepts' rows too; the text encoder stays frozen either way.
        steps: optimiser steps.
        batch_size: images per step over all ranks.
        learning_rate: AdamW's, for the LoRA.
        embedding_learning_rate: for the rows.
        weight_decay: AdamW's.
        warmup_steps: linear warm-up.
        schedule: "constant" or "cosine".
        gradient_clip: gradient norm, or None.
        pair_share: share of M pairs in a batch.
        caption_dropout: share of empty captions.
        flip: mirror single images.
        masked_loss: weigh the loss by the concepts' masks.
        background_weight: weight outside of the masks.
        min_snr_gamma: min-SNR weighting, or None.
        offset_noise: strength of a per-channel noise offset.
        timestep_bias: above 1, noisy timesteps are drawn more often (`data.MixedBatches`).
        prior_share: share of images that the base model itself draws of the class words (prior
            preservation).
        prior_images: such images per class word.
        ema_decay: averages the trained weights; 0 switches it off.
        gradient_checkpointing: trades time for memory.
        accumulate: parts that a batch is computed in, one after the other: less memory, the same
            result up to rounding.
        optimizer: "adamw", or "adamw8bit" of the package bitsandbytes.
        attention: "sdpa" (torch's fused kernels), "plain", or "auto": plain on CPUs, where it is
            faster for small models.
        compile: run the U-Net through torch.compile.
        validation: `every`, `images`, `timesteps` of the loss at fixed noise; None computes none.
        samples: `every`, `num_inference_steps`, `guidance_scale` of the sample grids; None writes
            none.

    Raises:
        ValueError: settings that do not fit, broken inputs, a loss that is not finite.
        TimeBudgetExhausted: `trainer.max_time` ran out; the same call goes on.
    """
    from clif_exp.artifacts.store import process_rank
    from clif_exp.base_models.loading import load_pipeline
    from clif_exp.base_models.text_tuning import copy_text_tuning, read_text_lora
    from clif_exp.base_models.tokens import ConceptEmbeddings, save_concept_embeddings
    from clif_exp.diffusion.adapters import add_lora, save_lora, store_in_autocast_dtype
    from clif_exp.diffusion.data import MixedBatches, Mixture
    from clif_exp.diffusion.module import DiffusionModule, Optimisation
    from clif_exp.diffusion.prior import draw_prior
    from clif_exp.diffusion.targets import noise_schedule
    from clif_exp.training.fit import fit, quiet_lightning
    from clif_exp.training.oom import explain_out_of_memory

    _check(
        rank=rank,
        train_embeddings=train_embeddings,
        pair_share=pair_share,
        prior_share=prior_share,
    )
    quiet_lightning()
    out = Path(out)
    optimisation = Optimisation(
        steps=steps,
        learning_rate=learning_rate,
        embedding_learning_rate=embedding_learning_rate,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        schedule=schedule,
        min_snr_gamma=min_snr_gamma,
        ema_decay=ema_decay,
        optimizer=optimizer,
    )
    pipeline = load_pipeline(spec, device=trainer.device, dtype=_base_dtype(trainer))
    noising = noise_schedule(pipeline.scheduler)
    if prior_share:
        draw_prior(out / "prior", pipeline, concepts, count=prior_images, seed=seed)
    token_ids = _insert_concepts(pipeline, concepts, embeddings=embeddings, num_tokens=num_tokens)
    prior = out / "prior" if prior_share else None
    images = _images(
        concepts, manifest=manifest, segments=segments if masked_loss else None, prior=prior
    )
    captions = list(
        dict.fromkeys(["", *(caption for image in images for caption in image.captions)])
    )
    text = _text_side(pipeline, spec=spec, token_ids=token_ids)
    caption_ids = text.tokenize(
        captions
    )  # refuses a caption that is too long before anything is encoded
    rows, encoded = {}, None
    with explain_out_of_memory(
        lambda: "the encoding of the training images", hint="model.resolution"
    ):
        background = background_weight if masked_loss else None
        latents, weights = _encode(
            pipeline.vae, images, spec=spec, flip=flip, background=background
        )
        if train_embeddings:
            rows = {
                name: ConceptEmbeddings(encoder, token_ids=token_ids[name])
                for name, (_, encoder) in text.encoders.items()
            }
        else:
            encoded = text.encode_captions(captions)
    _offload(pipeline, text_too=not train_embeddings)
    _set_attention(pipeline.unet, attention)
    if rank:
        add_lora(pipeline.unet, rank=rank, alpha=alpha, target_modules=target_modules, seed=seed)
    if (autocast := _autocast_dtype(trainer)) is not None:
        store_in_autocast_dtype(pipeline.unet, dtype=autocast)
    if gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    module = DiffusionModule(
        pipeline.unet,
        schedule=noising,
        text=text,
        rows=rows,
        encoded=encoded,
        caption_ids=caption_ids,
        optimisation=optimisation,
        compiled=compile,
    )
    batches = MixedBatches(
        images,
        latents,
        weights,
        Mixture(
            batch_size,
            pair_share,
            prior_share,
            caption_dropout=caption_dropout,
            flip=flip,
            seed=seed,
        ),
        num_timesteps=noising.num_timesteps,
        captions=captions,
        offset_noise=offset_noise,
        timestep_bias=timestep_bias,
        shares=trainer.devices * trainer.num_nodes * accumulate,
    )
    _LOG.info(
        "Diffusion stage: %d steps of %d images, %d images in all.",
        steps,
        batches.size,
        len(images),
    )
    fit(
        module,
        out=out,
        make_batch=batches,
        steps=steps,
        settings=trainer,
        metrics=["loss", "validation_loss", "lr"],
        run_key={
            "optimisation": asdict(optimisation),
            "rank": rank,
            "batch": batches.size,
            "seed": seed,
            "captions": captions,
        },
        gradient_clip=gradient_clip,
        accumulate=accumulate,
        hint=_LOWER,
        callbacks=_callbacks(
            pipeline,
            concepts,
            batches=batches,
            out=out,
            validation=validation,
            samples=samples,
            ema=bool(ema_decay),
        ),
    )
    if process_rank() > 0:
        return
    stage_1 = Path(embeddings).parent if embeddings else None
    text_lora = read_text_lora(stage_1) if stage_1 else {}
    save_lora(
        pipeline.unet if rank else None, out, pipeline_class=type(pipeline), text_lora=text_lora
    )
    if stage_1:
        copy_text_tuning(stage_1, out)
    for encoder_rows in rows.values():
        encoder_rows.detach()
    published = _published_rows(text, token_ids, rows=rows, embeddings=embeddings)
    save_concept_embeddings(out / "concept_embeddings.safetensors", published)


def _check(*, rank: int, train_embeddings: bool, pair_share: float, prior_share: float) -> None:
    if rank < 0:
        raise ValueError(f"diffusion.rank: found {rank}; give a whole number from 0 up.")
    if rank == 0 and not train_embeddings:
        raise ValueError(
            "diffusion.rank is 0 and diffusion.train_embeddings is false: nothing would train."
            " Change one of them."
        )
    if min(pair_share, prior_share) < 0 or pair_share + prior_share > 1:
        raise ValueError(
            f"diffusion.pair_share ({pair_share}) and prior_share ({prior_share}) are shares of"
            " a batch: each at least 0, together at most 1."
        )


def _base_dtype(trainer: TrainerSettings):
    """Frozen weights are stored in the precision that they are used in; on CPUs what is cached is
    computed in fp32.
    """
    import torch

    return torch.float32 if trainer.device == "cpu" else _autocast_dtype(trainer) or torch.float32


def _autocast_dtype(trainer: TrainerSettings):
    import torch

    from clif_exp.base_models.precision import best_precision

    precision = (
        best_precision(trainer.device) if trainer.precision == "auto" else str(trainer.precision)
    )
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)


def _insert_concepts(
    pipeline, concepts: ConceptSet, *, embeddings: Path | None, num_tokens: int
) -> dict[str, dict[str, list[int]]]:
    """Add the concepts' tokens to every text encoder; return encoder -> concept -> token ids."""
    from clif_exp.base_models.loading import text_encoders_of
    from clif_exp.base_models.text_tuning import apply_text_tuning
    from clif_exp.base_models.tokens import (
        add_concept_tokens,
        apply_concept_embeddings,
        load_concept_embeddings,
    )

    trained = load_concept_embeddings(embeddings) if embeddings else {}
    ids = {}
    for name, (tokenizer, encoder) in text_encoders_of(pipeline).items():
        if not trained:
            words = {concept.name: concept.class_word for concept in concepts.concepts}
            ids[name] = add_concept_tokens(
                tokenizer, encoder, concepts=words, num_tokens=num_tokens
            )
            continue
        missing = [
            concept.name
            for concept in concepts.concepts
            if concept.name not in trained.get(name, {})
        ]
        if missing:
            raise ValueError(
                f"{embeddings}: holds no rows of '{missing[0]}' for {name}. It belongs to another"
                " concept set or model."
            )
        rows = {concept.name: trained[name][concept.name] for concept in concepts.concepts}
        ids[name] = apply_concept_embeddings(tokenizer, encoder, rows)
    if embeddings is not None:
        apply_text_tuning(
            Path(embeddings).parent,
            {name: encoder for name, (_, encoder) in text_encoders_of(pipeline).items()},
        )
    return ids


def _published_rows(text, token_ids, *, rows, embeddings: Path | None) -> dict[str, dict[str, Any]]:
    """Return the rows as trained or as given; the token tables may hold them in half precision."""
    from clif_exp.base_models.tokens import load_concept_embeddings

    if rows:
        return {name: encoder_rows.by_concept() for name, encoder_rows in rows.items()}
    if embeddings is not None:
        given = load_concept_embeddings(embeddings)
        return {
            name: {concept: given[name][concept] for concept in concepts}
            for name, concepts in token_ids.items()
        }
    tables = {
        name: encoder.get_input_embeddings().weight for name, (_, encoder) in text.encoders.items()
    }
    return {
        name: {concept: tables[name][ids] for concept, ids in token_ids[name].items()}
        for name in tables
    }


def _images(
    concepts: ConceptSet, *, manifest: Path | None, segments: Path | None, prior: Path | None
) -> list[TrainingImage]:
    from clif_exp.diffusion.data import PRIOR, TrainingImage, pair_images, single_images
    from clif_exp.prompts.evaluation import TRAINING_TEMPLATES

    masks = _segment_masks(segments) if segments else {}
    images = single_images(concepts, templates=TRAINING_TEMPLATES, masks=masks)
    if manifest is not None:
        images += pair_images(manifest, names={concept.name for concept in concepts.concepts})
    for file in sorted(prior.glob("*/*.png")) if prior else ():
        word = file.parent.name.replace("_", " ")
        images.append(
            TrainingImage(file, PRIOR, word, tuple(t.format(word) for t in TRAINING_TEMPLATES))
        )
    return images


def _segment_masks(segments: Path) -> dict[tuple[str, int], Path]:
    """Return (concept, number of its image) -> mask of the whole concept, as curation found it."""
    lines = [
        json.loads(line) for line in (Path(segments) / "segments.jsonl").read_text().splitlines()
    ]
    return {
        (x["concept"], x["image"]): Path(segments) / x["mask"]
        for x in lines
        if x["kind"] == "whole"
    }


def _text_side(pipeline, *, spec: BaseModels, token_ids):
    from clif_exp.base_models.loading import text_encoders_of
    from clif_exp.diffusion.conditioning import TextEncoders

    return TextEncoders(
        text_encoders_of(pipeline),
        num_tokens={name: len(ids) for name, ids in token_ids["text_encoder"].items()},
        penultimate=spec.family == "sdxl",
        resolution=spec.resolution,
    )


def _encode(
    vae,
    images: Sequence[TrainingImage],
    *,
    spec: BaseModels,
    flip: bool,
    background: float | None,
):
    import torch

    from clif_exp.diffusion.data import encode_training_images, load_weights

    # Once, so in full precision: SDXL's autoencoder overflows in fp16, and bf16 latents would lose
    # detail.
    stored = vae.dtype
    if stored != torch.float32:
        vae.to(torch.float32)
    latents = encode_training_images(vae, images, resolution=spec.resolution, flip=flip)
    if stored != torch.float32:
        vae.to(stored)
    if background is None:
        return latents, None
    size = (latents.shape[2], latents.shape[3])
    weights = [
        load_weights(p.masks, resolution=spec.resolution, latent_size=size, background=background)
        for p in images
    ]
    return latents, torch.stack(weights)


def _offload(pipeline, *, text_too: bool) -> None:
    """Move what the steps do not need off the device, now that its work is cached."""
    from clif_exp.base_models.loading import text_encoders_of

    for part in (
        pipeline.vae,
        *([encoder for _, encoder in text_encoders_of(pipeline).values()] if text_too else []),
    ):
        part.to("cpu")


def _set_attention(unet, attention: str) -> None:
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

    if attention != "auto":
        unet.set_attn_processor(AttnProcessor2_0() if attention == "sdpa" else AttnProcessor())


def _callbacks(
    pipeline,
    concepts: ConceptSet,
    *,
    batches: MixedBatches,
    out: Path,
    validation: Mapping[str, int] | None,
    samples: Mapping[str, Any] | None,
    ema: bool,
) -> list:
    """The average comes first: the others show what would be published."""
    from clif_exp.diffusion.module import WeightAverage
    from clif_exp.diffusion.samples import SampleGrids, sample_prompts
    from clif_exp.diffusion.validation import FixedLoss, fixed_batch

    callbacks: list = [WeightAverage()] if ema else []
    if validation is not None:
        fixed = fixed_batch(
            batches.images,
            batches.latents_NCHW,
            captions=batches.captions,
            count=validation["images"],
            timesteps=validation["timesteps"],
            num_timesteps=batches.num_timesteps,
        )
        callbacks.append(
            FixedLoss(fixed, every=validation["every"], batch_size=batches.size // batches.shares)
        )
    if samples is not None:
        names = [concept.name for concept in concepts.concepts]
        callbacks.append(
            SampleGrids(pipeline, prompts=sample_prompts(names), folder=out / "samples", **samples)
        )
    return callbacks
