"""What evaluation publishes: metrics, confusion matrices, a verdict per image, and thumbnails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import write_json, write_jsonl
from clif_exp.concepts.concept import ConceptImage
from clif_exp.evaluation import matrices
from clif_exp.evaluation.assignment import Truth
from clif_exp.evaluation.metrics import REDRAWN
from clif_exp.evaluation.references import load_reference
from clif_exp.evaluation.scoring import Row


def write_results(
    out: Path,
    rows: Sequence[Row],
    others: Mapping[str, Sequence[Row]],
    *,
    names: Sequence[str],
    truth: Truth | None,
    thresholds: Mapping[str, float],
) -> None:
    """Write `confusion_matrix.json`, `per_image.jsonl` and, last, `metrics.json`.

    Args:
        out: folder to write into.
        rows: the customised model's images.
        others: group -> further images: the base model's (`metrics.BASE_GROUPS`), and those that
            were drawn again (`metrics.REDRAWN`).
        names: all concepts.
        truth: concept -> slot -> value; None: no matrices.
        thresholds: `presence` and `identity`, for readers of the matrices.
    """
    report: dict[str, Any] = {"thresholds": dict(thresholds)}
    for kind in ("single", "multi"):
        judged = [
            (row.figures, row.judgement)
            for row in rows
            if row.line["kind"] == kind and row.figures is not None and row.judgement is not None
        ]
        if judged and truth:
            judgements = [judgement for _, judgement in judged]
            report[kind] = matrices.confusion_matrix(judged, names=names, truth=truth)
            report[kind]["attendance"] = matrices.attendance_per_concept(judgements)
            report[kind]["confusion"] = matrices.confusion_per_concept(judgements)
            report[kind]["pairs"] = matrices.confusion_per_pair(judgements)
    write_json(out / "confusion_matrix.json", report)
    lines = [describe(row, group=row.line["kind"]) for row in rows]
    lines += [describe(row, group=group) for group, found in others.items() for row in found]
    write_jsonl(out / "per_image.jsonl", lines)
    base_rows = {group: found for group, found in others.items() if group not in REDRAWN}
    write_json(out / "metrics.json", collect_metrics(rows, base_rows, names=names))


def collect_metrics(
    rows: Sequence[Row], base_rows: Mapping[str, Sequence[Row]], *, names: Sequence[str]
) -> dict[str, float | None]:
    """Return the flat metrics of a run, of images that this process has all seen.

    Groups are `single/`, `multi/` (also by seen and unseen pairs, layout and interaction),
    `prior/`, and the base model's.
    """
    from clif_exp.evaluation.accumulate import RunMetrics

    layouts = [row.line["layout"] for row in rows if row.line["kind"] == "multi"]
    relations = [row.line["relation"] for row in rows if row.line.get("relation") is not None]
    # The processes shared the images through the folder, so the other ranks have nothing to add.
    metrics = RunMetrics(names=names, layouts=layouts, relations=relations, sync_on_compute=False)
    metrics.update(rows)
    for group, found in base_rows.items():
        metrics.update(found, group=group)
    return metrics.compute()


def describe(row: Row, *, group: str) -> dict[str, Any]:
    """Return an image's line of `per_image.jsonl`; file names are unique within a group."""
    line = {"group": group} | {
        key: row.line[key]
        for key in ("file", "prompt_id", "prompt", "kind", "layout", "concepts", "sides", "seed")
    }
    line["scores"] = dict(row.scores)
    if row.figures is not None:
        line["figures"] = [asdict(figure) for figure in row.figures]
    if row.judgement is not None:
        leaks = {f"{a}>{b}": counts for (a, b), counts in row.judgement.leaks.items()}
        line["judgement"] = asdict(row.judgement) | {"leaks": leaks}
    return line


def write_thumbnails(
    out: Path,
    references: Mapping[str, Sequence[ConceptImage]],
    *,
    per_concept: int = 3,
    side: int = 256,
) -> None:
    """Copy a few references, at most `side` px, so that a report needs only this artifact."""
    for name, own_images in references.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        for index, reference in enumerate(own_images[:per_concept]):
            image = load_reference(reference)
            image.thumbnail((side, side))
            image.save(out / name / f"{index}.png")
