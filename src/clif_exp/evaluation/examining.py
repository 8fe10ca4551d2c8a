"""Looks at pictures: scores each by the judges, reads its figures and judges them against its prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from clif_exp.evaluation.alignment import Judge, image_scores, text_scores
from clif_exp.evaluation.assignment import Truth
from clif_exp.evaluation.confusion import Judgement, judge_picture
from clif_exp.evaluation.readings import Figure, FigureReader

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One generated picture: its line of `generations.jsonl`, its scores, and what was found in it (None: nobody looked)."""

    line: Mapping[str, Any]
    scores: Mapping[str, float | None]
    figures: Sequence[Figure] | None = None
    judgement: Judgement | None = None


class Examiner:
    """The judges of a run with the references they compare against, which are embedded once.

    Args:
        judge: of alignment.
        eye: of figures; None leaves pictures unread.
        names: all concepts.
        truth: concept -> slot -> value; None where nobody knows, so that only prior pictures are judged.
        references: concept -> reference pictures.
        threshold: agreement from which a figure can stand for a concept.
        batch_size: pictures at a time.
    """

    def __init__(
        self,
        judge: Judge,
        eye: FigureReader | None,
        *,
        names: Sequence[str],
        truth: Truth | None,
        references: Mapping[str, Sequence[Path]],
        threshold: float,
        batch_size: int,
    ) -> None:
        self.judge, self.eye, self.names, self.truth = judge, eye, names, truth
        self.threshold, self.batch_size = threshold, batch_size
        self.clip_references: dict[str, Tensor] = {}
        self.dino_references: dict[str, Tensor] = {}
        for name, files in references.items():
            pictures = [open_picture(file) for file in files]
            self.clip_references[name] = judge.embed_images(pictures)
            if judge.dino is not None:
                self.dino_references[name] = judge.embed_images_dino(pictures)

    def examine(self, folder: Path) -> list[Row]:
        """Score and judge every picture of a generation artifact, in the order of its manifest."""
        lines = [json.loads(line) for line in (folder / "generations.jsonl").read_text().splitlines()]
        texts = sorted({line["text_for_alignment"] for line in lines})
        text_of = dict(zip(texts, self.judge.embed_texts(texts), strict=True))
        rows: list[Row] = []
        for start in range(0, len(lines), self.batch_size):
            rows += self._examine_batch(folder, lines[start : start + self.batch_size], text_of)
        return rows

    def _examine_batch(self, folder: Path, lines: Sequence[Mapping[str, Any]], text_of: Mapping[str, Tensor]) -> list[Row]:
        import torch

        pictures = [open_picture(folder / line["file"]) for line in lines]
        named = [line["concepts"] for line in lines]
        image_ND = self.judge.embed_images(pictures)
        scores: dict[str, Sequence[float | None]] = {
            **text_scores(image_ND, torch.stack([text_of[line["text_for_alignment"]] for line in lines])),
            "image_alignment": image_scores(image_ND, named, self.clip_references),
        }
        if self.judge.dino is not None:
            scores["image_alignment_dino"] = image_scores(self.judge.embed_images_dino(pictures), named, self.dino_references)
        readings: Sequence[list[Figure] | None] = self.eye.read(pictures) if self.eye is not None else [None] * len(lines)
        rows = []
        for index, (line, figures) in enumerate(zip(lines, readings, strict=True)):
            judgement = None
            if figures is not None:
                judgement = judge_line(line, figures, names=self.names, truth=self.truth, threshold=self.threshold)
            rows.append(Row(line, {key: values[index] for key, values in scores.items()}, figures, judgement))
        return rows


def judge_line(
    line: Mapping[str, Any], figures: Sequence[Figure], *, names: Sequence[str], truth: Truth | None, threshold: float
) -> Judgement | None:
    """Judge a picture against the concepts that its prompt names, or a prior picture against the figures that it describes."""
    sides = line["sides"]
    if line["kind"] == "prior":
        expected = {str(index): slots for index, slots in enumerate(line.get("expected") or [])}
        if not expected or any(figure.likeness is not None for figure in figures):
            return None
        return judge_picture(figures, list(expected), truth=expected, sides=sides, presence_threshold=threshold)
    if truth is None:
        return None
    # A single picture is also compared with everybody else: the baseline that leakage is measured against.
    others = names if line["kind"] == "single" else None
    return judge_picture(figures, line["concepts"], truth=truth, sides=sides, others=others, presence_threshold=threshold)


def open_picture(file: Path) -> Image.Image:
    """Open a picture as RGB, fully loaded."""
    with Image.open(file) as picture:
        return picture.convert("RGB")
