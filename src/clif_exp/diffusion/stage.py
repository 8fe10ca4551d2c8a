"""Stage 2: the text-to-image decoder learns all concepts together (CLIF, section 4.3)."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from clif_exp.backbones import BackboneSpec
    from clif_exp.concepts import ConceptSet
    from clif_exp.diffusion.data import TrainingPicture
    from clif_exp.trainer import TrainerSettings

VERSION = 1
_LOG = logging.getLogger(__name__)


def train_diffusion(
    out: Path,
    *,
    spec: BackboneSpec,
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
    pair_weight: float = 0.5,
    caption_dropout: float = 0.0,
    flip: bool = False,
    masked_loss: bool = False,
    background_weight: float = 0.1,
    min_snr_gamma: float | None = None,
    offset_noise: float = 0.0,
    prior_weight: float = 0.0,
    prior_images: int = 32,
    ema_decay: float = 0.0,
    gradient_checkpointing: bool = False,
    samples: Mapping[str, Any] | None = None,
) -> None:
    """Train one LoRA (and, by option, the concepts' rows) on single pictures and M pairs, and publish them.

    Writes pytorch_lora_weights.safetensors (unless rank is 0), concept_embeddings.safetensors, metrics.csv (step, loss, lr)
    and samples/step_NNNNNN.png.

    Args:
        out: the stage's folder; a killed run's partial work in it is finished.
        spec: resolved base models.
        concepts: what is customised.
        manifest: folder of the M pairs, or None (no mixing).
        segments: folder of curation's segments, whose masks a masked loss uses; or None.
        embeddings: file of stage 1, or None: rows start from the class words.
        trainer: how to run.
        seed: of everything random.
        num_tokens: tokens per concept if `embeddings` is None.
        rank: of the LoRA; 0 trains no LoRA (textual inversion, with `train_embeddings`).
        alpha: the LoRA's update is scaled by alpha / rank.
        target_modules: endings of the layers that get it.
        train_embeddings: train the concepts' rows too; the text encoder stays frozen either way.
        steps: optimiser steps.
        batch_size: pictures per step over all ranks.
        learning_rate: AdamW's, for the LoRA.
        embedding_learning_rate: for the rows.
        weight_decay: AdamW's.
        warmup_steps: linear warm-up.
        schedule: "constant" or "cosine".
        gradient_clip: gradient norm, or None.
        pair_weight: share of M pairs in a batch.
        caption_dropout: share of empty captions.
        flip: mirror single pictures.
        masked_loss: weigh the loss by the concepts' masks.
        background_weight: weight outside of the masks.
        min_snr_gamma: min-SNR weighting, or None.
        offset_noise: strength of a per-channel noise offset.
        prior_weight: share of pictures that the base model itself draws of the class words (prior preservation).
        prior_images: such pictures per class word.
        ema_decay: averages the trained weights; 0 switches it off.
        gradient_checkpointing: trades time for memory.
        samples: `every`, `num_inference_steps`, `guidance_scale` of the sample grids; None writes none.

    Raises:
        ValueError: settings that do not fit, broken inputs, a loss that is not finite.
        TimeBudgetExhausted: `trainer.max_time` ran out; the same call goes on.
    """
    from clif_exp.artifacts import process_rank
    from clif_exp.backbones import load_pipeline, text_encoders_of
    from clif_exp.diffusion.adapters import add_lora, save_lora
    from clif_exp.diffusion.conditioning import TextEncoders
    from clif_exp.diffusion.data import MixedBatches, Mixture
    from clif_exp.diffusion.module import DiffusionModule, Optimisation, WeightAverage
    from clif_exp.tokens import ConceptRows, save_concept_embeddings
    from clif_exp.trainer import fit, quiet_lightning

    _check(rank=rank, train_embeddings=train_embeddings, pair_weight=pair_weight, prior_weight=prior_weight)
    quiet_lightning()
    out = Path(out)
    pipeline = load_pipeline(spec, device=trainer.device, dtype=_base_dtype(trainer))
    if prior_weight:
        _draw_prior(out / "prior", pipeline, concepts, count=prior_images, seed=seed)
    token_ids = _insert_concepts(pipeline, concepts, embeddings=embeddings, num_tokens=num_tokens)
    prior = out / "prior" if prior_weight else None
    pictures = _pictures(concepts, manifest=manifest, segments=segments if masked_loss else None, prior=prior)
    latents, weights = _encode(pipeline.vae, pictures, spec=spec, flip=flip, background=background_weight if masked_loss else None)
    captions = list(dict.fromkeys(["", *(caption for picture in pictures for caption in picture.captions)]))
    text = TextEncoders(
        text_encoders_of(pipeline), num_tokens={name: len(ids) for name, ids in token_ids["text_encoder"].items()},
        penultimate=spec.family == "sdxl", resolution=spec.resolution,
    )  # fmt: skip
    rows = {}
    if train_embeddings:
        rows = {name: ConceptRows(encoder, token_ids=token_ids[name]) for name, (_, encoder) in text.encoders.items()}
    if rank:
        add_lora(pipeline.unet, rank=rank, alpha=alpha, target_modules=target_modules, seed=seed)
    if gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    optimisation = Optimisation(
        steps=steps, learning_rate=learning_rate, embedding_learning_rate=embedding_learning_rate, weight_decay=weight_decay,
        warmup_steps=warmup_steps, schedule=schedule, min_snr_gamma=min_snr_gamma, ema_decay=ema_decay,
    )  # fmt: skip
    scheduler = _training_scheduler(pipeline)
    module = DiffusionModule(
        pipeline.unet, scheduler=scheduler, text=text, rows=rows, encoded=None if rows else text.encode_captions(captions),
        caption_ids=text.tokenize(captions), optimisation=optimisation,
    )  # fmt: skip
    batches = MixedBatches(
        pictures, latents, weights,
        Mixture(batch_size, pair_weight, prior_weight, caption_dropout=caption_dropout, flip=flip, seed=seed),
        num_timesteps=scheduler.config.num_train_timesteps, captions=captions, offset_noise=offset_noise,
        ranks=trainer.devices * trainer.num_nodes,
    )  # fmt: skip
    _LOG.info("Diffusion stage: %d steps of %d pictures, %d pictures in all.", steps, batches.size, len(pictures))
    fit(
        module, out=out, make_batch=batches, steps=steps, settings=trainer, metrics=["loss", "lr"],
        run_key={"optimisation": asdict(optimisation), "rank": rank, "batch": batches.size, "seed": seed, "captions": captions},
        gradient_clip=gradient_clip,
        callbacks=[*([WeightAverage()] if ema_decay else []), *_sampling(pipeline, concepts, out=out, samples=samples)],
    )  # fmt: skip
    if process_rank() > 0:
        return
    if rank:
        save_lora(pipeline.unet, out, pipeline_class=type(pipeline))
    for encoder_rows in rows.values():
        encoder_rows.detach()
    save_concept_embeddings(out / "concept_embeddings.safetensors", _read_rows(text, token_ids))


def _check(*, rank: int, train_embeddings: bool, pair_weight: float, prior_weight: float) -> None:
    if rank < 0:
        raise ValueError(f"diffusion.rank: found {rank}; give a whole number from 0 up.")
    if rank == 0 and not train_embeddings:
        raise ValueError("diffusion.rank is 0 and diffusion.train_embeddings is false: nothing would train. Change one of them.")
    if min(pair_weight, prior_weight) < 0 or pair_weight + prior_weight > 1:
        raise ValueError(
            f"diffusion.pair_weight ({pair_weight}) and prior_weight ({prior_weight}) are shares of a batch: "
            "each at least 0, together at most 1."
        )


def _base_dtype(trainer: TrainerSettings):
    """Frozen weights are stored in the precision that they are used in; on CPUs in fp32, from which autocast converts."""
    import torch

    from clif_exp.precision import best_precision

    precision = best_precision(trainer.device) if trainer.precision == "auto" else str(trainer.precision)
    if trainer.device == "cpu":
        return torch.float32
    return torch.bfloat16 if precision.startswith("bf16") else torch.float16 if precision.startswith("16") else torch.float32


def _insert_concepts(pipeline, concepts: ConceptSet, *, embeddings: Path | None, num_tokens: int) -> dict[str, dict[str, list[int]]]:
    """Add the concepts' tokens to every text encoder; return encoder -> concept -> token ids."""
    from clif_exp.backbones import text_encoders_of
    from clif_exp.tokens import add_concept_tokens, apply_concept_embeddings, load_concept_embeddings

    trained = load_concept_embeddings(embeddings) if embeddings else {}
    ids = {}
    for name, (tokenizer, encoder) in text_encoders_of(pipeline).items():
        if not trained:
            words = {concept.name: concept.class_word for concept in concepts.concepts}
            ids[name] = add_concept_tokens(tokenizer, encoder, concepts=words, num_tokens=num_tokens)
            continue
        missing = [concept.name for concept in concepts.concepts if concept.name not in trained.get(name, {})]
        if missing:
            raise ValueError(f"{embeddings}: holds no rows of '{missing[0]}' for {name}. It belongs to another concept set or model.")
        rows = {concept.name: trained[name][concept.name] for concept in concepts.concepts}
        ids[name] = apply_concept_embeddings(tokenizer, encoder, rows)
    return ids


def _read_rows(text, token_ids) -> dict[str, dict[str, Any]]:
    tables = {name: encoder.get_input_embeddings().weight for name, (_, encoder) in text.encoders.items()}
    return {name: {concept: tables[name][ids] for concept, ids in token_ids[name].items()} for name in tables}


def _pictures(concepts: ConceptSet, *, manifest: Path | None, segments: Path | None, prior: Path | None) -> list[TrainingPicture]:
    from clif_exp.diffusion.data import PRIOR, TrainingPicture, pair_pictures, single_pictures
    from clif_exp.prompts import TRAINING_TEMPLATES

    masks = _segment_masks(segments) if segments else {}
    pictures = single_pictures(concepts, templates=TRAINING_TEMPLATES, masks=masks)
    if manifest is not None:
        pictures += pair_pictures(manifest, names={concept.name for concept in concepts.concepts})
    for file in sorted(prior.glob("*/*.png")) if prior else ():
        word = file.parent.name.replace("_", " ")
        pictures.append(TrainingPicture(file, PRIOR, word, tuple(t.format(word) for t in TRAINING_TEMPLATES)))
    return pictures


def _segment_masks(segments: Path) -> dict[tuple[str, int], Path]:
    """Return (concept, number of its picture) -> mask of the whole concept, as curation found it."""
    lines = [json.loads(line) for line in (Path(segments) / "segments.jsonl").read_text().splitlines()]
    return {(x["concept"], x["image"]): Path(segments) / x["mask"] for x in lines if x["kind"] == "whole"}


def _encode(vae, pictures: Sequence[TrainingPicture], *, spec: BackboneSpec, flip: bool, background: float | None):
    import torch

    from clif_exp.diffusion.data import encode_pictures, load_weights

    latents = encode_pictures(vae, pictures, resolution=spec.resolution, flip=flip)
    if background is None:
        return latents, None
    size = (latents.shape[2], latents.shape[3])
    weights = [load_weights(p.masks, resolution=spec.resolution, latent_size=size, background=background) for p in pictures]
    return latents, torch.stack(weights)


def _training_scheduler(pipeline):
    from diffusers import DDPMScheduler

    return DDPMScheduler.from_config(pipeline.scheduler.config)


def _draw_prior(folder: Path, pipeline, concepts: ConceptSet, *, count: int, seed: int) -> None:
    """Draw what the base model makes of each class word, once; finished pictures of a killed run are kept."""
    import torch

    for word in sorted({concept.class_word for concept in concepts.concepts}):
        target = folder / word.replace(" ", "_")
        target.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            file = target / f"{index:04d}.png"
            if file.is_file():
                continue
            generator = torch.Generator().manual_seed(seed * 100_003 + index)
            image = pipeline(prompt=f"a photo of a {word}", generator=generator, num_inference_steps=25).images[0]
            partial = file.with_suffix(f".{os.getpid()}.partial")
            image.save(partial, format="PNG")
            partial.replace(file)


def _sampling(pipeline, concepts: ConceptSet, *, out: Path, samples: Mapping[str, Any] | None) -> list:
    from clif_exp.diffusion.samples import SampleGrids, sample_prompts

    if samples is None:
        return []
    names = [concept.name for concept in concepts.concepts]
    return [SampleGrids(pipeline, prompts=sample_prompts(names), folder=out / "samples", **samples)]
