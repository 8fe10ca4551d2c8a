"""Curation's wiring."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.store import Artifact, process_rank
from clif_exp.runs.directory import relative
from clif_exp.runs.ranks import device_of
from clif_exp.runs.stages.versions import version_of

if TYPE_CHECKING:
    from clif_exp.runs.execution import Execution

log = logging.getLogger("clif_exp")
KINDS = {"G": "global", "R": "region", "M": "mix"}


def curate(execution: Execution) -> None:
    """Segment, sample contexts, compose G, R and M pairs: five artifacts, so that an ablation only
    selects.
    """
    plan, version = execution.plan, version_of("curation/stage.py")
    config, device = plan.config, device_of(plan.config)

    def build(out: Path, *, helping: bool = False) -> None:
        _curation().segment_concepts(
            out,
            concepts=plan.concepts,
            spec=plan.spec,
            segmenter=config["segmenter"],
            captioner=config["captioner"],
            device=device,
            num_workers=config["num_workers"],
            helping=helping,
        )

    segments = execution.artifact(
        "segments",
        stage="curation",
        version=version,
        config={"segmenter": config["segmenter"], "captioner": config["captioner"]},
        inputs={"concepts": plan.concepts_fingerprint, "base": plan.base},
        build=build,
        help_build=partial(build, helping=True),
        work=sum(len(concept.images) for concept in plan.concepts.concepts),
        unit="images",
    )
    contexts = _contexts(execution, version)
    for kind in KINDS:
        _compose(execution, kind, version=version, segments=segments, contexts=contexts)
    execution.run.add_stage_of(
        "curation", ["segments", "contexts", *(f"augment_{kind}" for kind in KINDS)]
    )
    if segments is not None and execution.mode("curation") == "run" and process_rank() == 0:
        _curation_page(execution, segments=segments, contexts=contexts)


def _curation_page(execution: Execution, *, segments: Artifact, contexts: Artifact | None) -> None:
    """Put a page with sources, masks, part names and augmented images into the run's folder."""
    from clif_exp.curation.page import write_page

    manifests = {
        kind: execution.artifacts[f"augment_{kind}"].path
        for kind in KINDS
        if f"augment_{kind}" in execution.artifacts
    }
    page = execution.run.path / "curation.html"
    write_page(
        page,
        concepts=execution.plan.concepts,
        segments=segments.path,
        contexts=contexts.path if contexts else None,
        manifests=manifests,
    )
    log.info("%-13s %s", "page", relative(page))


def _contexts(execution: Execution, version: int) -> Artifact | None:
    """General concepts and parts, sampled from the base model: the same for every concept set, seed
    and ablation.
    """
    plan = execution.plan
    settings = plan.config["augmentation"]["contexts"]
    kinds = [plan.config["augmentation"][name] for name in KINDS.values()]
    if not any(
        kind["num_pairs"] and (kind is not kinds[-1] or kind["canvas"] == "generated")
        for kind in kinds
    ):
        return None

    def build(out: Path, *, helping: bool = False) -> None:
        segmenter, device = plan.config["segmenter"], device_of(plan.config)
        _curation().generate_contexts(
            out, spec=plan.spec, segmenter=segmenter, device=device, helping=helping, **settings
        )

    return execution.artifact(
        "contexts",
        stage="curation",
        version=version,
        config={"contexts": settings, "segmenter": plan.config["segmenter"]},
        inputs={"base": plan.base},
        build=build,
        help_build=partial(build, helping=True),
        work=round(
            settings["images_per_name"]
            * settings["oversampling"]
            * (len(settings["names"]) + len(settings["part_names"]))
        ),
        unit="images",
    )


def _compose(
    execution: Execution,
    kind: str,
    *,
    version: int,
    segments: Artifact | None,
    contexts: Artifact | None,
) -> None:
    """One kind of augmentation; none where the config asks for no pairs."""
    plan = execution.plan
    settings = plan.config["augmentation"][KINDS[kind]]
    if (
        not settings["num_pairs"]
        or segments is None
        or (kind == "M" and len(plan.concepts.concepts) < 2)
    ):
        return
    # Mixed pairs on white need no contexts, and so do not wait for them.
    needed = contexts if kind != "M" or settings["canvas"] == "generated" else None
    inputs = {"segments": segments.fingerprint} | (
        {"contexts": needed.fingerprint} if needed else {}
    )
    seed = plan.config["augmentation"]["seed"]

    def build(out: Path, *, helping: bool = False) -> None:
        _curation().compose_pairs(
            out,
            kind=kind,
            segments=segments.path,
            contexts=needed.path if needed else None,
            settings=settings,
            seed=seed,
            num_workers=plan.config["num_workers"],
            helping=helping,
        )

    execution.artifact(
        f"augment_{kind}",
        stage="curation",
        version=version,
        config={"settings": settings, "seed": seed, "resolution": plan.spec.resolution},
        inputs=inputs,
        build=build,
        help_build=partial(build, helping=True),
        work=settings["num_pairs"],
        unit="pairs",
    )


def _curation() -> Any:
    from clif_exp.curation import stage

    return stage
