"""The evaluation stage: alignment, confusion, prior and embedding distances of one run's images."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.files import write_json, write_jsonl
from clif_exp.evaluation import confusion, matrices
from clif_exp.evaluation.alignment import Judge, check_independent, reference_files
from clif_exp.evaluation.assignment import Truth
from clif_exp.evaluation.readers import check_reader, load_reader
from clif_exp.evaluation.scoring import Evaluator, Row, open_image

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.concepts.concept import ConceptSet

SCORES = ("text_alignment", "text_cosine", "image_alignment", "image_alignment_dino")
log = logging.getLogger(__name__)


def evaluate(
    out: Path,
    *,
    generations: Path,
    prior_before: Path | None,
    concepts: ConceptSet,
    dataset_root: Path,
    spec: BaseModels,
    judge: Mapping[str, Any],
    reader: Mapping[str, Any],
    contrastive: Path | None = None,
    diffusion: Path | None = None,
    presence_threshold: float = 0.5,
    identity_threshold: float = 0.75,
    batch_size: int = 32,
    device: str = "cpu",
    finalize: bool = True,
) -> None:
    """Judge the images of a run and write `metrics.json`, `per_image.jsonl`,
    `confusion_matrix.json` and `distances.json`.

    Args:
        out: folder to write into.
        generations: what the generation stage published.
        prior_before: the base model's images of the prior prompts, or None.
        concepts: the concepts that were taught.
        dataset_root: their folder; `truth.json` and `held_out/` in it are read here and nowhere
            else.
        spec: base models; the judge must be none of them.
        judge: `path` of a CLIP (None: ToonWorld's own) and the other arguments of
            `alignment.Judge`.
        reader: `kind` oracle, open_vocabulary or none, and its arguments.
        contrastive, diffusion: what the two training stages published, for the embedding distances.
        presence_threshold: agreement from which a figure can stand for a concept, in [0, 1].
        identity_threshold: identity that `confusion` asks of every concept, in [0, 1].
        batch_size: images at a time.
        device: torch device.
        finalize: False contributes images to a folder that another process completes.
    """
    check_settings(
        spec,
        judge=judge,
        reader=reader,
        presence_threshold=presence_threshold,
        identity_threshold=identity_threshold,
        batch_size=batch_size,
    )
    names = [concept.name for concept in concepts.concepts]
    references = {
        concept.name: reference_files(
            concept.name,
            dataset_root=dataset_root,
            training=[image.file for image in concept.images],
        )
        for concept in concepts.concepts
    }
    clip = Judge(
        batch_size=batch_size, device=device, **_with_default_path(judge, spec, "judge_clip")
    )
    eye = load_reader(
        _with_default_path(reader, spec, "oracle"), references=references, device=device
    )
    truth = load_truth(dataset_root, names, reader=reader)
    if eye is not None and truth is None:
        log.warning(
            "evaluation: %s has no truth.json, so identity, leakage and their like are not"
            " measured",
            dataset_root,
        )

    examiner = Evaluator(
        clip,
        eye,
        names=names,
        truth=truth,
        references=references,
        threshold=presence_threshold,
        batch_size=batch_size,
    )
    if finalize:
        out.mkdir(parents=True, exist_ok=True)
    rows = examiner.examine(generations, work=out / "examined")
    before = (
        examiner.examine(prior_before, work=out / "examined_prior")
        if prior_before is not None
        else []
    )
    if not finalize:
        return
    for work in ("examined", "examined_prior"):
        shutil.rmtree(out / work, ignore_errors=True)
    write_thumbnails(out / "references", references)
    if contrastive is not None or diffusion is not None:
        from clif_exp.evaluation.distance import measure_distances

        classes = {concept.name: concept.class_word for concept in concepts.concepts}
        stages = {
            label: path
            for label, path in (("after stage 1", contrastive), ("after stage 2", diffusion))
            if path is not None
        }
        write_json(
            out / "distances.json",
            measure_distances(spec, concepts=classes, stages=stages, device=device),
        )
    thresholds = {"presence": presence_threshold, "identity": identity_threshold}
    write_results(out, rows, before, names=names, truth=truth, thresholds=thresholds)


def write_results(
    out: Path,
    rows: Sequence[Row],
    before: Sequence[Row],
    *,
    names: Sequence[str],
    truth: Truth | None,
    thresholds: Mapping[str, float],
) -> None:
    """Write `confusion_matrix.json`, `per_image.jsonl` and, last, `metrics.json`: its presence says
    that all is there.
    """
    bound = thresholds["identity"]
    report: dict[str, Any] = {"thresholds": dict(thresholds)}
    for kind in ("single", "multi"):
        judged = [
            (row.figures, row.judgement)
            for row in rows
            if row.line["kind"] == kind and row.figures is not None and row.judgement is not None
        ]
        if judged and truth:
            report[kind] = matrices.confusion_matrix(judged, names=names, truth=truth)
            report[kind]["attendance"] = matrices.attendance_per_concept(
                [judgement for _, judgement in judged]
            )
            report[kind]["pairs"] = matrices.confusion_per_pair(
                [judgement for _, judgement in judged], identity_threshold=bound
            )
    write_json(out / "confusion_matrix.json", report)
    lines = (describe(row, identity_threshold=bound) for row in [*rows, *before])
    write_jsonl(out / "per_image.jsonl", lines)
    write_json(out / "metrics.json", collect_metrics(rows, before, identity_threshold=bound))


def check_settings(
    spec: BaseModels,
    *,
    judge: Mapping[str, Any],
    reader: Mapping[str, Any],
    presence_threshold: float,
    identity_threshold: float,
    batch_size: int,
) -> None:
    """Check, before anything expensive runs, that the judges are there and that nobody judges their
    own pupil.

    Raises:
        ValueError: a threshold outside [0, 1], a judge that stage 1 trains against, a missing
            folder, or an unknown reader.
    """
    for name, value in {
        "presence_threshold": presence_threshold,
        "identity_threshold": identity_threshold,
    }.items():
        if not 0 <= value <= 1:
            raise ValueError(f"evaluation.{name}: {value} is no share. Give a number from 0 to 1.")
    if batch_size < 1:
        raise ValueError(f"evaluation.batch_size: {batch_size} is below 1.")
    path = Path(_with_default_path(judge, spec, "judge_clip")["path"])
    check_independent(path, spec.contrastive)
    # One slash, not absolute: a hub id, which only loading can check.
    if (path.is_absolute() or path.exists()) and not (path / "config.json").exists():
        raise ValueError(
            f"evaluation.judge.path: {path} holds no CLIP model. Name a folder or hub id of a"
            " CLIPModel."
        )
    check_reader(_with_default_path(reader, spec, "oracle"))


def _with_default_path(
    settings: Mapping[str, Any], spec: BaseModels, folder: str
) -> dict[str, Any]:
    """Fill in an open path: the folder beside ToonWorld's pipeline, so that replaced base models
    bring their own judges.
    """
    settings = dict(settings)
    if settings.get("path") is None and settings.get("kind", "oracle") == "oracle":
        from clif_exp.base_models.spec import packaged_weights

        beside = Path(str(spec.path)).expanduser().resolve().parent / folder
        settings["path"] = str(beside if beside.is_dir() else packaged_weights() / folder)
    return settings


def load_truth(
    dataset_root: Path, names: Sequence[str], *, reader: Mapping[str, Any]
) -> Truth | None:
    """Read concept -> slot -> value from `truth.json`; None where there is none. Readers that
    compare need none.
    """
    if reader.get("kind") == "open_vocabulary":
        return {name: {} for name in names}
    path = dataset_root / "truth.json"
    if not path.exists():
        return None
    from clif_exp.toonworld.world import SLOTS

    content = json.loads(path.read_text())
    return {
        name: {slot: content[name][slot] for slot in SLOTS if slot in content[name]}
        for name in names
    }


def collect_metrics(
    rows: Sequence[Row], before: Sequence[Row], *, identity_threshold: float
) -> dict[str, float | None]:
    """Return the flat metrics of a run: `single/`, `multi/` (also by seen and unseen pairs and by
    layout), `prior/`, `prior_before/`.
    """
    kinds = {
        kind: [row for row in rows if row.line["kind"] == kind]
        for kind in ("single", "multi", "prior")
    }
    baseline = confusion.leak_baseline(
        [row.judgement for row in kinds["single"] if row.judgement is not None]
    )
    groups = {"single": kinds["single"], "multi": kinds["multi"]}
    for seen, label in ((True, "pairs_seen"), (False, "pairs_unseen")):
        groups[f"multi/{label}"] = [row for row in kinds["multi"] if row.line.get("seen") is seen]
    for layout in sorted({row.line["layout"] for row in kinds["multi"]}):
        groups[f"multi/layout_{layout}"] = [
            row for row in kinds["multi"] if row.line["layout"] == layout
        ]
    groups |= {
        "prior": kinds["prior"],
        "prior_before": [row for row in before if row.line["kind"] == "prior"],
    }
    metrics: dict[str, float | None] = {}
    for group, members in groups.items():
        if not members:
            continue
        for score in SCORES:
            values = [value for row in members if (value := row.scores.get(score)) is not None]
            if values:
                metrics[f"{group}/{score}"] = fmean(values)
        judgements = [row.judgement for row in members if row.judgement is not None]
        if judgements:
            multi = group.startswith("multi")
            summary = confusion.summarise(
                judgements, multi=multi, baseline=baseline, identity_threshold=identity_threshold
            )
            metrics.update({f"{group}/{name}": value for name, value in summary.items()})
        metrics[f"{group}/pictures"] = float(len(members))
    return metrics


def describe(row: Row, *, identity_threshold: float) -> dict[str, Any]:
    """A line of `per_image.jsonl`."""
    line = {
        key: row.line[key]
        for key in ("file", "prompt_id", "prompt", "kind", "layout", "concepts", "sides", "seed")
    }
    line["scores"] = dict(row.scores)
    if row.figures is not None:
        line["figures"] = [asdict(figure) for figure in row.figures]
    if row.judgement is not None:
        judgement = asdict(row.judgement)
        judgement["leaks"] = {f"{a}>{b}": counts for (a, b), counts in row.judgement.leaks.items()}
        line["judgement"] = judgement | {
            "confused": row.judgement.is_confused(identity_threshold=identity_threshold)
        }
    return line


def write_thumbnails(
    out: Path, references: Mapping[str, Sequence[Path]], *, per_concept: int = 3, side: int = 256
) -> None:
    """Copy a few references, shrunk, so that a report needs nothing but this artifact."""
    for name, files in references.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        for index, file in enumerate(files[:per_concept]):
            image = open_image(file)
            image.thumbnail((side, side))
            image.save(out / name / f"{index}.png")
