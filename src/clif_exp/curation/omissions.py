"""What curation could not use, in sentences for its page and for the report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from clif_exp.artifacts.files import read_jsonl
from clif_exp.concepts.concept import Concept, ConceptSet
from clif_exp.curation.manifest import read_segments


def without_parts(segments: Path, *, concepts: ConceptSet, naming: bool) -> dict[str, str]:
    """Return concept -> why R-Aug shows none or not all of its parts, and what would do.

    Args:
        segments: artifact of `segment_concepts`.
        concepts: the concept set.
        naming: whether regions were to get names (`captioner.naming.enabled`).
    """
    lines = [line for line in read_segments(segments) if line["kind"] == "part"]
    told = {}
    for concept in concepts.concepts:
        own = [line["part"] for line in lines if line["concept"] == concept.name]
        if text := _about(concept, regions=len(own), named={name for name in own if name}):
            told[concept.name] = text if naming else _NOT_NAMED
    return told


_NOT_NAMED = "No part has a name, because captioner.naming.enabled=false."


def _about(concept: Concept, *, regions: int, named: set[str]) -> str | None:
    if not named and not regions:
        return (
            "No parts were found. List some in concepts.yaml (parts: [hat, jacket]), or let"
            " captioner=openai or captioner=vlm list them."
        )
    if not named:
        return (
            f"None of {regions} regions fits a part's name. If the masks show the wrong thing, give"
            " a box, a point or a mask for those images in concepts.yaml. If they are right, list"
            " other parts there, or lower captioner.naming.threshold."
        )
    missing = [part for part in concept.parts if part not in named]
    return f"No region fits {', '.join(missing)} of its listed parts." if missing else None


def left_out(
    segments: Path,
    contexts: Path | None,
    *,
    concepts: ConceptSet,
    naming: bool,
    kinds: Iterable[str],
) -> list[str]:
    """Return what the augmented images leave out, a sentence each.

    Args:
        segments: artifact of `segment_concepts`.
        contexts: artifact of `generate_contexts`, if there is one.
        concepts: the concept set.
        naming: whether regions were to get names (`captioner.naming.enabled`).
        kinds: of augmented images that the run has; parts matter to R only.
    """
    told = []
    if "R" in kinds:
        parts = [line["part"] for line in read_segments(segments) if line["kind"] == "part"]
        if unnamed := parts.count(None):
            told.append(
                f"{unnamed} of {len(parts)} regions of the concepts: they fit no part's name, so"
                " R-Aug does not show them."
            )
        told += [
            f"<{name}>, its parts: {text}"
            for name, text in without_parts(segments, concepts=concepts, naming=naming).items()
        ]
    lines = read_jsonl(contexts / "contexts.jsonl") if contexts else []
    kept = {line["name"] for line in lines if line["kept"]}
    dropped = dict.fromkeys(line["name"] for line in lines if line["name"] not in kept)
    if dropped:
        told.append(
            f"General concepts of which no image passed augmentation.contexts.screen:"
            f" {', '.join(dropped)}."
        )
    return told
