"""The training stages' wiring: stage 1 (see `contrastive`), then stage 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.store import Artifact
from clif_exp.base_models.tokens import EMBEDDINGS_FILE
from clif_exp.diffusion.prior import class_prompt, general_prompts
from clif_exp.runs.stages.contrastive import train_contrastive
from clif_exp.runs.stages.generation import sample_images

if TYPE_CHECKING:
    from clif_exp.concepts.concept import ConceptSet
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
    prior = _prior_images(execution, plan.concepts)
    reads = {
        "manifest": execution.artifacts.get("augment_M"),
        "segments": execution.artifacts.get("segments"),
        "embeddings": contrastive,
        **prior,
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
            prior=[artifact.path for artifact in prior.values()],
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


def _prior_images(execution: Execution, concepts: ConceptSet) -> dict[str, Artifact]:
    """Images of the base model alone: the same for every concept set, seed and method.

    Returns:
        "prior" for the general ones, "prior/cat" for those of a class word.
    """
    plan, config = execution.plan, execution.plan.config
    settings = config.diffusion.prior
    if not config.diffusion.prior_share:
        return {}
    sampling = config.generation.model_copy(
        update={
            "seeds": [settings.seed],
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": settings.guidance_scale,
            "batch_size": settings.batch_size,
            "mixed_precision": settings.mixed_precision,
        }
    )
    found = {}
    if settings.images:
        found["prior"] = sample_images(
            execution,
            "prior_images",
            prompts=general_prompts(plan.spec.record.world, settings=settings),
            stage="diffusion",
            settings=sampling,
        )
    seeds = list(range(settings.seed, settings.seed + settings.class_images))
    class_words = dict.fromkeys(c.class_word for c in concepts.concepts) if seeds else {}
    for class_word in class_words:
        found[f"prior/{class_word}"] = sample_images(
            execution,
            "class_images",
            part=class_word,
            prompts=[class_prompt(class_word)],
            stage="diffusion",
            settings=sampling.model_copy(update={"seeds": seeds}),
        )
    return {name: artifact for name, artifact in found.items() if artifact is not None}
