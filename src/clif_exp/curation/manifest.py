"""Reading what curation publishes: cut-outs to place, and manifests of augmented images."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import read_jsonl
from clif_exp.curation.library import Cutout, Library


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """Read an augmentation artifact's manifest; `planning.plan_pair` says what a line holds."""
    return read_jsonl(Path(folder) / "manifest.jsonl")


def read_segments(folder: Path) -> list[dict[str, Any]]:
    """Read a segmentation artifact: one line per whole and per part of every image."""
    return read_jsonl(Path(folder) / "segments.jsonl")


def read_contexts(folder: Path) -> list[dict[str, Any]]:
    """Read the kept lines of a contexts artifact: `kind` is whole, part or background."""
    return [line for line in read_jsonl(Path(folder) / "contexts.jsonl") if line["kept"]]


def read_library(segments: Path, contexts: Path | None) -> Library:
    """Gather everything that can be placed.

    Args:
        segments: artifact of `segment_concepts`.
        contexts: artifact of `generate_contexts`, or None where none is needed.

    Returns:
        Cut-outs in the artifacts' own order.
    """
    wholes: dict[str, list[Cutout]] = defaultdict(list)
    parts: dict[tuple[str, str], list[Cutout]] = defaultdict(list)
    for line in read_segments(segments):
        width, height = line["cutout_size"]
        cutout = Cutout(
            line["cutout"], "segments", width, height, concept=line["concept"], part=line["part"]
        )
        if line["kind"] == "whole":
            wholes[line["concept"]].append(cutout)
        elif line["part"] is not None:
            parts[line["concept"], line["part"]].append(cutout)
    general: dict[str, list[Cutout]] = defaultdict(list)
    backgrounds: list[tuple[str, str]] = []
    for line in read_contexts(contexts) if contexts is not None else []:
        if line["kind"] == "background":
            backgrounds.append((line["cutout"], line["name"]))
            continue
        width, height = line["cutout_size"]
        part = line["name"] if line["kind"] == "part" else None
        general[line["kind"]].append(
            Cutout(line["cutout"], "contexts", width, height, context=line["name"], part=part)
        )
    return Library(
        wholes={name: tuple(items) for name, items in wholes.items()},
        parts={key: tuple(items) for key, items in parts.items()},
        contexts=tuple(general["whole"]),
        context_parts=tuple(general["part"]),
        backgrounds=tuple(backgrounds),
    )
