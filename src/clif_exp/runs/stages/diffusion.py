"""The training stages' wiring: stage 1 (see `contrastive`), then stage 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.store import Artifact
from clif_exp.base_models.tokens import EMBEDDINGS_FILE
from clif_exp.diffusion.prior import class_prompt, general_prompts
from clif_exp.runs.stages.contrastive import train_contrastive
from clif_exp.runs.stages.curation import segments_of
from clif_exp.runs.stages.generation import sample_images
from clif_exp.runs.stages.merging import merge_parts

if TYPE_CHECKING:
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.runs.execution import Execution

_TRAINED = ("contrastive", "reconstruction", "diffusion")


def train(execution: Execution) -> None:
    """Stage 1 and stage 2, as far as the method has them.

    Their curves go to the run's metrics.csv.
    """
    contrastive = train_contrastive(execution)
    if execution.plan.config.method.diffusion:
        _train_diffusion(execution, contrastive)
    curves = {
        name: artifact.path / "metrics.csv"
        for name, artifact in execution.artifacts.items()
        if name.partition("/")[0] in _TRAINED
    }
    execution.log_curves(curves)


def _train_diffusion(execution: Execution, contrastive: Artifact | None) -> None:
    plan, made = execution.plan, execution.artifacts
    if plan.config.method.merging is not None:
        merge_parts(execution, _train_apart(execution, contrastive))
        return
    _train_concepts(
        execution,
        plan.concepts,
        reads={
            "manifest": made.get("augment_M"),
            "segments": made.get("segments"),
            "embeddings": contrastive,
        },
    )


def _train_apart(execution: Execution, contrastive: Artifact | None) -> dict[str, Artifact]:
    """Customise each concept for itself: an artifact each, which no other concept enters.

    So adding a concept trains that one only.
    """
    plan = execution.plan
    parts = {}
    for position, concept in enumerate(plan.concepts.concepts):
        alone = replace(plan.concepts, concepts=(concept,))
        # Found again for each, so that no other concept's images enter.
        needed = plan.config.diffusion.needs_masks or any(it.marked for it in concept.images)
        segments = segments_of(execution, alone, key=f"segments/{concept.name}") if needed else None
        parts[concept.name] = _train_concepts(
            execution,
            alone,
            reads={"segments": segments, "embeddings": contrastive},
            key=f"diffusion/{concept.name}",
            position=position,
        )
    return {name: artifact for name, artifact in parts.items() if artifact is not None}


def _train_concepts(
    execution: Execution,
    concepts: ConceptSet,
    *,
    reads: Mapping[str, Artifact | None],
    key: str | None = None,
    position: int = 0,
) -> Artifact | None:
    """Get the artifact of stage 2 on a concept set.

    Args:
        execution: the run so far.
        concepts: to customise together.
        reads: "manifest" (M pairs), "segments" and "embeddings" (stage 1), as far as there are.
        key: what the run calls the artifact.
        position: of the concept among those that are customised apart.
    """
    plan, config = execution.plan, execution.plan.config
    settings = config.diffusion
    prior = _prior_images(execution, concepts)
    # Else a concept's training is the same wherever it stands.
    place = settings.orthogonal_start + position if settings.orthogonal_lora else 0
    given = {name: artifact for name, artifact in reads.items() if artifact is not None} | prior

    def build(out: Path) -> None:
        from clif_exp.diffusion.stage import train_diffusion

        paths = {name: artifact.path for name, artifact in given.items()}
        train_diffusion(
            out,
            spec=plan.spec,
            concepts=concepts,
            manifest=paths.get("manifest"),
            segments=paths.get("segments"),
            prior=[artifact.path for artifact in prior.values()],
            embeddings=paths["embeddings"] / EMBEDDINGS_FILE if "embeddings" in paths else None,
            trainer=config.trainer,
            seed=config.seed,
            settings=settings,
            position=place,
            loggers=execution.loggers(key or "diffusion", out),
        )

    return execution.artifact(
        "diffusion",
        key=key,
        stage="diffusion",
        version=settings.VERSION,
        config={
            "settings": settings.relevant(),
            "seed": config.seed,
            "trainer": config.trainer.relevant(),
            "position": place,
        },
        inputs={"concepts": concepts.fingerprint(), "base": plan.base_fingerprint}
        | {name: artifact.fingerprint for name, artifact in given.items()},
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
            prompts=general_prompts(
                plan.spec.record.world, count=settings.images, seed=settings.seed
            ),
            stage="diffusion",
            settings=sampling,
        )
    seeds = list(range(settings.seed, settings.seed + settings.class_images))
    class_words = dict.fromkeys(c.class_word for c in concepts.concepts) if seeds else {}
    for class_word in class_words:
        found[f"prior/{class_word}"] = sample_images(
            execution,
            "class_images",
            key=f"class_images/{class_word}",
            prompts=[class_prompt(class_word)],
            stage="diffusion",
            settings=sampling.model_copy(update={"seeds": seeds}),
        )
    return {name: artifact for name, artifact in found.items() if artifact is not None}
