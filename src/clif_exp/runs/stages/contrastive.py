"""Stage 1's wiring: contrast, and optionally reconstruction after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.store import Artifact
from clif_exp.base_models.tokens import EMBEDDINGS_FILE
from clif_exp.contrastive.settings import ContrastiveSettings, ImageFeatureSettings
from clif_exp.diffusion.settings import DiffusionSettings

if TYPE_CHECKING:
    from clif_exp.runs.config import Config
    from clif_exp.runs.execution import Execution


def train_contrastive(execution: Execution) -> Artifact | None:
    """Train the concept tokens, if the method has a stage 1.

    Returns:
        The last artifact whose embeddings stage 2 starts from; None for methods without stage 1.
    """
    plan, config = execution.plan, execution.plan.config
    if not config.method.contrastive:
        return None
    # Reconstruction is an artifact of its own, built from this one.
    settings = config.contrastive.model_copy(update={"reconstruction": None})
    manifests = {
        kind: execution.artifacts[f"augment_{kind}"]
        for kind in ("G", "R")
        if f"augment_{kind}" in execution.artifacts
    }

    def build(out: Path) -> None:
        from clif_exp.contrastive.stage import train_contrastive as train

        train(
            out,
            spec=plan.spec,
            concepts=plan.concepts,
            manifests={kind: artifact.path for kind, artifact in manifests.items()},
            trainer=config.trainer,
            features=_image_features(execution, manifests, settings=settings),
            seed=config.seed,
            settings=settings,
            loggers=lambda encoder: execution.loggers(
                "contrastive" if encoder == "text_encoder" else f"contrastive/{encoder}", out
            ),
        )

    trained = execution.artifact(
        "contrastive",
        stage="contrastive",
        version=settings.VERSION,
        config={
            "settings": settings.relevant(),
            "seed": config.seed,
            "trainer": config.trainer.relevant(),
        },
        inputs={"concepts": plan.concepts_fingerprint, "base": plan.base_fingerprint}
        | {kind: artifact.fingerprint for kind, artifact in manifests.items()},
        build=build,
        work=settings.steps,
        unit="steps",
        collective=True,
    )
    if trained is None or config.contrastive.reconstruction is None:
        return trained
    return _reconstruct(execution, trained)


def _image_features(
    execution: Execution, manifests: Mapping[str, Artifact], *, settings: ContrastiveSettings
) -> Path | None:
    """Get the pairs' image features, shared by all seeds and settings of stage 1 on these pairs.

    Called only when stage 1 trains: a run that reuses stage 1 does not need them.
    """
    plan = execution.plan
    if not manifests or not settings.steps:
        return None
    wanted = ImageFeatureSettings(
        encoders=settings.encoders,
        parts=settings.identical_part_threshold < 1.0,
        device=plan.config.trainer.device,
    )

    def build(out: Path) -> None:
        from clif_exp.contrastive.features import cache_image_features

        cache_image_features(
            out,
            spec=plan.spec,
            manifests={kind: artifact.path for kind, artifact in manifests.items()},
            names={concept.name for concept in plan.concepts.concepts},
            settings=wanted,
        )

    return plan.store.get_or_build(
        "image_features",
        version=wanted.VERSION,
        config=wanted.relevant(),
        inputs={"base": plan.base_fingerprint}
        | {kind: artifact.fingerprint for kind, artifact in manifests.items()},
        build=build,
        contribute=build,
    ).path


def _reconstruct(execution: Execution, trained: Artifact) -> Artifact | None:
    """Train the concept embeddings of all encoders by denoising the reference images.

    The released code's second step: everything else is frozen. It is textual inversion (Gal et al.
    2022) started from stage 1's embeddings, so it runs stage 2's code without a LoRA.
    """
    plan, config = execution.plan, execution.plan.config
    settings = reconstruction_settings(config)
    marked = any(image.marked for concept in plan.concepts.concepts for image in concept.images)
    segments = execution.artifacts.get("segments") if marked else None

    def build(out: Path) -> None:
        from clif_exp.diffusion.stage import train_diffusion

        train_diffusion(
            out,
            spec=plan.spec,
            concepts=plan.concepts,
            manifest=None,
            segments=segments.path if segments else None,
            embeddings=trained.path / EMBEDDINGS_FILE,
            trainer=config.trainer,
            seed=config.seed,
            settings=settings,
            loggers=execution.loggers("reconstruction", out),
        )

    return execution.artifact(
        "reconstruction",
        stage="contrastive",
        version=settings.VERSION,
        config={
            "settings": settings.relevant(),
            "seed": config.seed,
            "trainer": config.trainer.relevant(),
        },
        inputs={
            "concepts": plan.concepts_fingerprint,
            "base": plan.base_fingerprint,
            "embeddings": trained.fingerprint,
            **({"segments": segments.fingerprint} if segments else {}),
        },
        build=build,
        work=settings.steps,
        unit="steps",
        collective=True,
    )


def reconstruction_settings(config: Config) -> DiffusionSettings:
    """Return stage 2's settings for embeddings alone: single images, the plain loss.

    Stage 2's own stay where they say how it computes, or whether images are mirrored: how long and
    what it trains must not train stage 1 anew.
    """
    stated = config.contrastive.reconstruction
    assert stated is not None
    return config.diffusion.model_copy(
        update={
            "num_tokens": config.contrastive.num_tokens,
            "initial_words": "class_word",
            "class_word": False,
            "unet": "frozen",
            "rank": 1,
            "alpha": 1.0,
            "target_modules": None,
            "train_embeddings": True,
            "background_weight": 0.0,
            "learning_rate": stated.learning_rate,
            "pair_share": 0.0,
            "prior_share": 0.0,
            "prior_target": "images",
            "prior_loss_weight": 1.0,
            "caption_dropout": 0.0,
            "scale_augmentation": None,
            "detach_start_of_text": False,
            "masked_loss": False,
            "min_snr_gamma": None,
            "offset_noise": 0.0,
            "timestep_bias": 1.0,
            "ema_decay": 0.0,
            "validation": None,
            "samples": None,
            "layerwise": False,
            "embedding_norm_limit": None,
            "text_lora": None,
            "attention_regularisation": 0.0,
            "orthogonal_lora": False,
            "gradient_clip": config.contrastive.gradient_clip,
            "schedule": config.contrastive.schedule,
            "warmup_steps": min(config.contrastive.warmup_steps, stated.steps),
            "stated_steps": stated.steps,
            "images_per_concept": None,
            "batch_size": stated.batch_size,
            "embedding_learning_rate": stated.learning_rate,
            "weight_decay": stated.weight_decay,
            "accumulate": stated.accumulate,
        }
    )
