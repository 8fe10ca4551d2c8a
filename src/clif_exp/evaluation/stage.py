"""The evaluation stage: alignment, confusion, prior and embedding distances of one run's images."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.files import write_json
from clif_exp.base_models.checks import check_weights
from clif_exp.concepts.concept import TRUTH_FILE
from clif_exp.errors import Refused
from clif_exp.evaluation.alignment import Judge, check_independent
from clif_exp.evaluation.assignment import Truth
from clif_exp.evaluation.correlation import write_correlation
from clif_exp.evaluation.distance import AFTER_STAGE_1, AFTER_TRAINING
from clif_exp.evaluation.models import ReaderInputs, packaged_model
from clif_exp.evaluation.references import find_references
from clif_exp.evaluation.results import write_results, write_thumbnails
from clif_exp.evaluation.scoring import Evaluator

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.evaluation.settings import EvaluationSettings, JudgeSettings

log = logging.getLogger(__name__)


def evaluate(
    out: Path,
    *,
    generations: Path,
    prior_before: Path | None,
    concepts: ConceptSet,
    dataset_root: Path,
    spec: BaseModels,
    settings: EvaluationSettings,
    class_word: Path | None = None,
    stage_1: Path | None = None,
    redrawn: Mapping[str, Path] | None = None,
    contrastive: Path | None = None,
    diffusion: Path | None = None,
    device: str = "cpu",
    finalize: bool = True,
) -> None:
    """Judge the images of a run and write its metrics, matrices, distances and verdicts per image.

    Writes `metrics.json`, `per_image.jsonl`, `confusion_matrix.json`, `distances.json`,
    `distance_confusion.json` and `references/`.

    Args:
        out: folder to write into.
        generations: what the generation stage published.
        prior_before: the base model's images of the prior prompts, or None.
        concepts: the concepts that were taught.
        dataset_root: their folder; `truth.json` and `held_out/` in it are read here and nowhere
            else.
        spec: base models; the judge must be none of them.
        settings: evaluation's.
        class_word: the base model's images of the single prompts in class words, or None.
        stage_1: its images of the single prompts with what stage 1 trained alone, or None.
        redrawn: one of `metrics.REDRAWN` -> some of `generations` drawn again; they are read and
            judged, and no metric counts them.
        contrastive: what stage 1 published, for the embedding distances, or None.
        diffusion: what stage 2 published, likewise.
        device: torch device.
        finalize: False contributes images to a folder that another process completes.

    Raises:
        ValueError: as `check_settings`.
    """
    check_settings(spec, settings)
    names = [concept.name for concept in concepts.concepts]
    references = find_references(concepts, dataset_root)
    truth = find_truth(dataset_root, names, settings)
    evaluator = Evaluator(
        load_judge(settings, spec=spec, device=device),
        settings.reader.build(ReaderInputs(spec, references, device)),
        names=names,
        truth=truth,
        references=references,
        presence_threshold=settings.presence_threshold,
        identity_threshold=settings.identity_threshold,
        batch_size=settings.batch_size,
    )
    if finalize:
        out.mkdir(parents=True, exist_ok=True)
    rows = evaluator.score_images(generations, work=out / "scored")
    folders = {"prior_before": prior_before, "class_word": class_word, "stage1": stage_1}
    folders |= redrawn or {}
    others = {
        group: evaluator.score_images(folder, work=out / f"scored_{group}")
        for group, folder in folders.items()
        if folder is not None
    }
    if not finalize:
        return
    for work in ("scored", *(f"scored_{group}" for group in others)):
        shutil.rmtree(out / work, ignore_errors=True)
    write_thumbnails(out / "references", references)
    stages = {AFTER_STAGE_1: contrastive, AFTER_TRAINING: diffusion}
    write_distances(out, stages, spec=spec, concepts=concepts, device=device)
    thresholds = {"presence": settings.presence_threshold, "identity": settings.identity_threshold}
    write_results(out, rows, others, names=names, truth=truth, thresholds=thresholds)
    write_correlation(out)


def check_settings(spec: BaseModels, settings: EvaluationSettings) -> None:
    """Check that the judges' files are there and that stage 1 does not train against the judge.

    Raises:
        ValueError: a judge that stage 1 trains against, or a folder without the expected model.
    """
    path = judge_path(settings.judge, spec)
    check_independent(path, spec.contrastive)
    # One slash, not absolute: a hub id, which only loading can check.
    if (path.is_absolute() or path.exists()) and not (path / "config.json").exists():
        raise ValueError(
            f"evaluation.judge.path: {path} holds no CLIP model. Name a folder or hub id of a"
            " CLIPModel."
        )
    check_weights(path, what="evaluation.judge.path")
    settings.reader.check(spec)


def check_truth(dataset_root: Path, names: Sequence[str], settings: EvaluationSettings) -> None:
    """Check that a ToonWorld set's truth, where there is one, knows all of its concepts.

    Raises:
        ValueError: it does not.
    """
    path = dataset_root / TRUTH_FILE
    if not settings.reader.needs_truth or not path.exists():
        return
    if unknown := [name for name in names if name not in json.loads(path.read_text())]:
        raise ValueError(
            f"{path}: says nothing of {unknown[0]!r}. Describe it there as the others are, or"
            " remove the file: then only alignment is measured."
        )


def judge_path(settings: JudgeSettings, spec: BaseModels) -> Path:
    """Return the folder or hub id of the CLIP that judges."""
    return Path(settings.path) if settings.path else packaged_model(spec, "judge_clip")


def load_judge(settings: EvaluationSettings, *, spec: BaseModels, device: str) -> Judge:
    """Load the models that judge alignment."""
    return Judge(
        judge_path(settings.judge, spec),
        revision=settings.judge.revision,
        image_path=settings.judge.image_path,
        image_revision=settings.judge.image_revision,
        device=device,
        batch_size=settings.batch_size,
    )


def get_from_hub(spec: BaseModels, settings: EvaluationSettings) -> None:
    """Load the judging models of a hub once, so that none is found missing after the training.

    Raises:
        Refused: one cannot be had, with the hub's reason.
    """
    for field, ids in settings.hub_models().items():
        named = ", ".join(ids)
        log.info("evaluation.%s: getting %s", field, named)
        try:
            if field == "judge":
                load_judge(settings, spec=spec, device="cpu")
            else:
                settings.reader.build(ReaderInputs(spec, {}, "cpu"))
        except (OSError, ValueError) as error:
            raise Refused(
                f"evaluation.{field}: {named} cannot be loaded. Get it while there is a network,"
                " name another, or leave evaluation out of stages. The reason:"
                f" {' '.join(str(error).split())}"
            ) from error


def find_truth(
    dataset_root: Path, names: Sequence[str], settings: EvaluationSettings
) -> Truth | None:
    """Read concept -> slot -> value from `truth.json`; None, with a warning, where there is none.

    Readers that compare need no truth: every concept's is empty.
    """
    if not settings.reader.needs_truth:
        return {name: {} for name in names}
    path = dataset_root / TRUTH_FILE
    if not path.exists():
        if settings.reader.kind != "none":
            log.warning(
                "evaluation: %s has no truth.json, so only alignment is measured for its concepts",
                dataset_root,
            )
        return None
    from clif_exp.toonworld.world import SLOTS

    content = json.loads(path.read_text())
    return {
        name: {slot: content[name][slot] for slot in SLOTS if slot in content[name]}
        for name in names
    }


def write_distances(
    out: Path,
    stages: Mapping[str, Path | None],
    *,
    spec: BaseModels,
    concepts: ConceptSet,
    device: str,
) -> None:
    """Write `distances.json`: how far the concepts lie apart before and after each stage.

    Args:
        out: folder to write into.
        stages: label -> what that training stage published; nothing is written without any.
        spec: base models.
        concepts: the concepts that were taught.
        device: torch device.
    """
    published = {label: path for label, path in stages.items() if path is not None}
    if not published:
        return
    from clif_exp.evaluation.distance import measure_distances

    classes = {concept.name: concept.class_word for concept in concepts.concepts}
    distances = measure_distances(spec, concepts=classes, stages=published, device=device)
    write_json(out / "distances.json", distances)
