"""The training stages' wiring: stage 1 (see `contrastive`), then stage 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.store import Artifact
from clif_exp.base_models.tokens import EMBEDDINGS_FILE
from clif_exp.diffusion.prior import general_prompts
from clif_exp.runs.stages.contrastive import train_contrastive
from clif_exp.runs.stages.generation import sample_images

if TYPE_CHECKING:
    from clif_exp.runs.execution import Execution

_TRAINED = ("contrastive", "reconstruction", "diffusion")


def train(execution: Execution) -> None:
    """Stage 1 and stage 2, as far as the method has them.

    Their curves go to the run's metrics.csv and the trackers.
    """
    contrastive = train_contrastive(execution)
    if execution.plan.config.method.diffusion:
        _train_diffusion(execution, contrastive)
    curves = {
        name: artifact.path / "metrics.csv"
        for name, artifact in execution.artifacts.items()
        if name in _TRAINED
    }
    execution.log_curves(curves)


def _train_diffusion(execution: Execution, contrastive: Artifact | None) -> None:
    plan, config = execution.plan, execution.plan.config
    settings = config.diffusion
    reads = {
        "manifest": execution.artifacts.get("augment_M"),
        "segments": execution.artifacts.get("segments"),
        "prior": _prior_images(execution),
        "embeddings": contrastive,
    }
    inputs = {"concepts": plan.concepts_fingerprint, "base": plan.base_fingerprint} | {
        name: artifact.fingerprint for name, artifact in reads.items() if artifact is not None
    }

    def build(out: Path) -> None:
        from clif_exp.diffusion.stage import train_diffusion

        paths = {name: artifact.path if artifact else None for name, artifact in reads.items()}
        train_diffusion(
            out,
            spec=plan.spec,
            concepts=plan.concepts,
            manifest=paths["manifest"],
            segments=paths["segments"],
            prior=paths["prior"],
            embeddings=contrastive.path / EMBEDDINGS_FILE if contrastive else None,
            trainer=config.trainer,
            seed=config.seed,
            settings=settings,
        )

    execution.artifact(
        "diffusion",
        stage="diffusion",
        version=settings.VERSION,
        config={
            "settings": settings.relevant(),
            "seed": config.seed,
            "trainer": config.trainer.relevant(),
        },
        inputs=inputs,
        build=build,
        work=settings.steps,
        unit="steps",
        collective=True,
    )


def _prior_images(execution: Execution) -> Artifact | None:
    """General images of the base model: the same for every concept set, seed and method."""
    plan, config = execution.plan, execution.plan.config
    settings = config.diffusion.prior
    if not config.diffusion.prior_share:
        return None
    sampling = config.generation.model_copy(
        update={
            "seeds": [settings.seed],
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": settings.guidance_scale,
            "batch_size": settings.batch_size,
            "mixed_precision": settings.mixed_precision,
        }
    )
    return sample_images(
        execution,
        "prior_images",
        prompts=general_prompts(plan.spec.record.world, settings=settings),
        stage="diffusion",
        settings=sampling,
    )
