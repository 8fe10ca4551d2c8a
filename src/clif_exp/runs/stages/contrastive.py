"""Stage 1's wiring, as `clif_exp.runs.stages.outputs` has it for the others: contrast, and by
option reconstruction after it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.store import Artifact

if TYPE_CHECKING:
    from clif_exp.runs.execution import Execution

Version = Callable[[str], int]
log = logging.getLogger("clif_exp")


def train_contrastive(
    execution: Execution,
    *,
    numerics: Mapping[str, Any],
    trainer: Callable[[], Any],
    version_of: Version,
) -> Artifact | None:
    """Train the concepts' tokens, where the method has a stage 1.

    Args:
        execution: the run.
        numerics: what of the trainer changes results.
        trainer: makes the trainer's settings, which costs imports.
        version_of: module path -> its VERSION.

    Returns:
        The last artifact whose embeddings stage 2 starts from; None for methods without stage 1.
    """
    plan = execution.plan
    if not plan.config["method"]["contrastive"]:
        return None
    settings = {
        key: value for key, value in plan.config["contrastive"].items() if key != "reconstruction"
    }
    manifests = {
        kind: execution.artifacts[f"augment_{kind}"]
        for kind in ("G", "R")
        if f"augment_{kind}" in execution.artifacts
    }

    def build(out: Path) -> None:
        from clif_exp.contrastive.stage import train_contrastive as train

        made = trainer()
        features = _image_features(
            execution, manifests, version=version_of("contrastive/features.py"), device=made.device
        )
        paths = {kind: artifact.path for kind, artifact in manifests.items()}
        train(
            out,
            spec=plan.spec,
            concepts=plan.concepts,
            manifests=paths,
            seed=plan.config["seed"],
            trainer=made,
            features=features,
            **settings,
        )

    trained = execution.artifact(
        "contrastive",
        stage="contrastive",
        version=version_of("contrastive/stage.py"),
        config={"settings": settings, "seed": plan.config["seed"], "hardware": numerics},
        inputs={"concepts": plan.concepts_fingerprint, "base": plan.base}
        | {kind: a.fingerprint for kind, a in manifests.items()},
        build=build,
        work=max(settings["steps"], 1),
        unit="steps",
        collective=True,
    )
    if trained is None or plan.config["contrastive"]["reconstruction"] is None:
        return trained
    return _reconstruct(
        execution, trained, numerics=numerics, trainer=trainer, version_of=version_of
    )


def _image_features(
    execution: Execution, manifests: Mapping[str, Artifact], *, version: int, device: str
) -> Path | None:
    """Get the pairs' image features: an artifact of its own, which all seeds and settings of stage
    1 on these pairs share.

    It is asked for only when stage 1 trains, so that a run that reuses stage 1 does not need it any
    more.
    """
    plan, settings = execution.plan, execution.plan.config["contrastive"]
    if not manifests or not settings["steps"]:
        return None
    shared: dict[str, Any] = {
        "version": version,
        "config": {
            "encoders": settings["encoders"],
            "parts": settings["identical_parts"] < 1.0,
            "device": device,
        },
        "inputs": (
            {"base": plan.base}
            | {kind: artifact.fingerprint for kind, artifact in manifests.items()}
        ),
    }

    def build(out: Path) -> None:
        from clif_exp.contrastive.features import cache_image_features

        cache_image_features(
            out,
            spec=plan.spec,
            encoders=settings["encoders"],
            manifests={kind: a.path for kind, a in manifests.items()},
            names={concept.name for concept in plan.concepts.concepts},
            parts=shared["config"]["parts"],
            device=device,
        )

    return plan.store.get_or_build("image_features", build=build, help_build=build, **shared).path


def _reconstruct(
    execution: Execution,
    trained: Artifact,
    *,
    numerics: Mapping[str, Any],
    trainer: Callable[[], Any],
    version_of: Version,
) -> Artifact | None:
    """Train the rows of all encoders by denoising the reference images, everything else frozen:
    the released code's second step.

    It is textual inversion (Gal et al. 2022) that starts from the contrasted rows, and so stage 2's
    code without a LoRA.
    """
    plan, settings = execution.plan, _settings_of_reconstruction(execution)

    def build(out: Path) -> None:
        from clif_exp.diffusion.stage import train_diffusion

        train_diffusion(
            out,
            spec=plan.spec,
            concepts=plan.concepts,
            manifest=None,
            segments=None,
            embeddings=trained.path / "concept_embeddings.safetensors",
            seed=plan.config["seed"],
            trainer=trainer(),
            **settings,
        )

    return execution.artifact(
        "reconstruction",
        stage="contrastive",
        version=version_of("diffusion/stage.py"),
        config={"settings": settings, "seed": plan.config["seed"], "hardware": numerics},
        inputs={
            "concepts": plan.concepts_fingerprint,
            "base": plan.base,
            "embeddings": trained.fingerprint,
        },
        build=build,
        work=settings["steps"],
        unit="steps",
        collective=True,
    )


def _settings_of_reconstruction(execution: Execution) -> dict[str, Any]:
    """Stage 2's settings for reconstruction: rows only, from single images only; what is not
    stated is stage 2's own.
    """
    config = execution.plan.config
    stated = dict(config["contrastive"]["reconstruction"])
    shared = (
        "warmup_steps",
        "schedule",
        "gradient_clip",
        "flip",
        "gradient_checkpointing",
        "optimizer",
        "attention",
        "compile",
    )
    return {
        **{key: config["diffusion"][key] for key in shared if key in config["diffusion"]},
        "rank": 0,
        "train_embeddings": True,
        "pair_weight": 0.0,
        "samples": None,
        "embedding_learning_rate": stated.pop("learning_rate"),
        **stated,
    }
