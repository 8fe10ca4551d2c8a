"""Curation's wiring: five artifacts, so that an ablation only selects."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.store import Artifact, process_rank
from clif_exp.curation.captioners.build import captioner_content
from clif_exp.curation.segmenters.build import segmenter_content
from clif_exp.curation.settings import FIELDS, Kind
from clif_exp.runs.directory import relative

if TYPE_CHECKING:
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.runs.execution import Execution

log = logging.getLogger("clif_exp")


def curate(execution: Execution) -> None:
    """Segment, sample contexts, compose G, R and M pairs."""
    segments = segments_of(execution, execution.plan.concepts)
    contexts = _contexts(execution)
    for kind in FIELDS:
        _compose(execution, kind, segments=segments, contexts=contexts)
    parts = ["segments", "contexts", *(f"augment_{kind}" for kind in FIELDS)]
    execution.note_parts("curation", parts)
    if segments is not None and execution.mode("curation") == "run" and process_rank() == 0:
        _curation_page(execution, segments=segments, contexts=contexts)


def segments_of(
    execution: Execution, concepts: ConceptSet, *, key: str | None = None
) -> Artifact | None:
    """Get the artifact of every concept and its parts, cut out of its images."""
    plan, config = execution.plan, execution.plan.config

    def build(out: Path, *, finalize: bool = True) -> None:
        from clif_exp.curation.stage import segment_concepts

        segment_concepts(
            out,
            concepts=concepts,
            spec=plan.spec,
            segmenter=config.segmenter,
            captioner=config.captioner,
            device=config.trainer.device,
            finalize=finalize,
        )

    return execution.artifact(
        "segments",
        key=key,
        stage="curation",
        version=config.segmenter.VERSION,
        config={
            "segmenter": config.segmenter.relevant(),
            "max_side": config.segmenter.max_side,  # contexts are not shrunk
            "captioner": config.captioner.relevant(),
        },
        inputs={
            "concepts": concepts.fingerprint(),
            "base": plan.base_fingerprint,
            **segmenter_content(config.segmenter),
            **captioner_content(config.captioner),
        },
        build=build,
        contribute=partial(build, finalize=False),
        work=sum(len(concept.images) for concept in concepts.concepts),
        unit="images",
    )


def _contexts(execution: Execution) -> Artifact | None:
    """General concepts and parts: the same for every concept set, seed and ablation."""
    plan, config = execution.plan, execution.plan.config
    settings = config.augmentation.contexts
    # Mixed pairs need them on generated backgrounds only.
    kinds = [config.augmentation.of(kind) for kind in FIELDS if kind != "M"]
    mix = config.augmentation.mix
    if not any(kind.num_pairs for kind in kinds) and not (mix.num_pairs and mix.background_share):
        return None

    def build(out: Path, *, finalize: bool = True) -> None:
        from clif_exp.curation.stage import generate_contexts

        generate_contexts(
            out,
            spec=plan.spec,
            settings=settings,
            segmenter=config.segmenter,
            device=config.trainer.device,
            finalize=finalize,
        )

    names = len(settings.names) + len(settings.part_names)
    return execution.artifact(
        "contexts",
        stage="curation",
        version=settings.VERSION,
        config={"contexts": settings.relevant(), "segmenter": config.segmenter.relevant()},
        inputs={"base": plan.base_fingerprint, **segmenter_content(config.segmenter)},
        build=build,
        contribute=partial(build, finalize=False),
        work=round(settings.images_per_name * settings.oversampling * names),
        unit="images",
    )


def _compose(
    execution: Execution, kind: Kind, *, segments: Artifact | None, contexts: Artifact | None
) -> None:
    """One kind of augmentation; none where the config asks for no pairs."""
    plan, config = execution.plan, execution.plan.config
    settings, seed = config.augmentation.of(kind), config.augmentation.seed
    # Of one concept, or of concepts that are customised apart, there is no image of two.
    alone = len(plan.concepts.concepts) < 2 or config.method.merging is not None
    if not settings.num_pairs or segments is None or (kind == "M" and alone):
        return
    # Mixed pairs on white need no contexts, and so do not wait for them.
    needed = contexts if kind != "M" or settings.background_share else None
    inputs = {"segments": segments.fingerprint}
    inputs |= {"contexts": needed.fingerprint} if needed else {}

    def build(out: Path, *, finalize: bool = True) -> None:
        from clif_exp.curation.stage import compose_pairs

        compose_pairs(
            out,
            kind=kind,
            segments=segments.path,
            contexts=needed.path if needed else None,
            settings=settings,
            seed=seed,
            num_workers=config.num_workers,
            finalize=finalize,
        )

    execution.artifact(
        f"augment_{kind}",
        stage="curation",
        version=settings.VERSION,
        config={"settings": settings.relevant(), "seed": seed},
        inputs=inputs,
        build=build,
        contribute=partial(build, finalize=False),
        work=settings.num_pairs,
        unit="pairs",
    )


def _curation_page(execution: Execution, *, segments: Artifact, contexts: Artifact | None) -> None:
    """Put a page with sources, masks, part names and augmented images into the run's folder."""
    from clif_exp.curation.page import write_page

    manifests: dict[str, Path] = {
        kind: execution.artifacts[f"augment_{kind}"].path
        for kind in FIELDS
        if f"augment_{kind}" in execution.artifacts
    }
    page = execution.run.path / "curation.html"
    write_page(
        page,
        concepts=execution.plan.concepts,
        segments=segments.path,
        contexts=contexts.path if contexts else None,
        manifests=manifests,
        naming=execution.plan.config.captioner.naming.enabled,
        warnings=execution.plan.warnings,
        report="report.html" if "report" in execution.plan.config.stages else None,
    )
    log.info("%-13s %s", "page", relative(page))
