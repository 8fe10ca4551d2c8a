"""Scores images by the judges, reads their figures and judges them against their prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from clif_exp.artifacts.files import read_jsonl, write_json
from clif_exp.artifacts.sharing import share
from clif_exp.evaluation.alignment import EmbeddedBatch, Judge
from clif_exp.evaluation.assignment import Truth
from clif_exp.evaluation.confusion import Judgement, judge_image
from clif_exp.evaluation.detect_and_compare import square_crop
from clif_exp.evaluation.figures import Figure, FigureReader
from clif_exp.evaluation.metrics import METRICS
from clif_exp.evaluation.references import load_reference

if TYPE_CHECKING:
    from torch import Tensor

    from clif_exp.concepts.concept import ConceptImage


@dataclass(frozen=True)
class Row:
    """One generated image with everything that was measured in it.

    Attributes:
        line: its line of `generations.jsonl`.
        scores: its alignment by metric; None where a metric does not apply to it.
        figures: what the reader found; None without a reader.
        judgement: of the figures; None if they were not read or the truth is not known.
    """

    line: Mapping[str, Any]
    scores: Mapping[str, float | None]
    figures: Sequence[Figure] | None = None
    judgement: Judgement | None = None


class Evaluator:
    """The judges of a run with the references they compare against, which are embedded once.

    Args:
        judge: of alignment.
        reader: of figures; None leaves images unread.
        names: all concepts.
        truth: concept -> slot -> value; None where it is not known, so that only prior images are
            judged.
        references: concept -> reference images.
        presence_threshold: agreement from which a figure can stand for a concept, in [0, 1].
        identity_threshold: identity that an image without confusion needs of every concept, in
            [0, 1].
        batch_size: images at a time.
    """

    def __init__(
        self,
        judge: Judge,
        reader: FigureReader | None,
        *,
        names: Sequence[str],
        truth: Truth | None,
        references: Mapping[str, Sequence[ConceptImage]],
        presence_threshold: float,
        identity_threshold: float,
        batch_size: int,
    ) -> None:
        self.judge, self.reader, self.names, self.truth = judge, reader, names, truth
        self.presence_threshold, self.identity_threshold = presence_threshold, identity_threshold
        self.batch_size = batch_size
        self.clip_references: dict[str, Tensor] = {}
        self.dino_references: dict[str, Tensor] = {}
        self.figure_references: dict[str, Tensor] = {}
        for name, own_images in references.items():
            images = [load_reference(reference) for reference in own_images]
            self.clip_references[name] = judge.embed_images(images)
            if judge.dino is not None:
                self.dino_references[name] = judge.embed_images_dino(images)
            own = reader.embed(images) if reader is not None else None
            self.figure_references[name] = self.clip_references[name] if own is None else own

    def score_images(self, folder: Path, *, work: Path) -> list[Row]:
        """Score and judge every image of a generation artifact, in batches that processes share.

        Args:
            folder: the artifact.
            work: folder for the batches scored so far; its parent exists until the work is
                published.

        Returns:
            One row per image, in the order of the manifest.
        """
        lines = read_jsonl(folder / "generations.jsonl")
        batches = {
            f"batch_{start:06d}": lines[start : start + self.batch_size]
            for start in range(0, len(lines), self.batch_size)
        }
        work.mkdir(exist_ok=True)
        text_of: dict[str, Tensor] = {}

        def score(key: str) -> None:
            if not text_of:
                texts = sorted({line["text_for_alignment"] for line in lines})
                text_of.update(zip(texts, self.judge.embed_texts(texts), strict=True))
            write_json(work / f"{key}.json", self._score_batch(folder, batches[key], text_of))

        def done(key: str) -> bool:
            return (work / f"{key}.json").is_file()

        share(work, batches, done=done, work=score, description="judging")
        found = [
            image for key in batches for image in json.loads((work / f"{key}.json").read_text())
        ]
        return [self._judged(line, image) for line, image in zip(lines, found, strict=True)]

    def _score_batch(
        self, folder: Path, lines: Sequence[Mapping[str, Any]], text_of: Mapping[str, Tensor]
    ) -> list[dict[str, Any]]:
        """Return the scores and figures of each image, as JSON."""
        import torch

        images = [open_image(folder / line["file"]) for line in lines]
        readings = self.reader.read(images) if self.reader is not None else None
        batch = EmbeddedBatch(
            image_ND=self.judge.embed_images(images),
            text_ND=torch.stack([text_of[line["text_for_alignment"]] for line in lines]),
            named=[line["concepts"] for line in lines],
            references=self.clip_references,
            dino_NE=self.judge.embed_images_dino(images) if self.judge.dino is not None else None,
            dino_references=self.dino_references,
            figures=self._embed_figures(images, readings, lines) if readings is not None else None,
            figure_references=self.figure_references,
        )
        scores: dict[str, Sequence[float | None]] = {}
        for metric in METRICS:
            if metric.scored is not None and (values := metric.scored(batch)) is not None:
                scores[metric.name] = values
        return [
            {
                "scores": {name: values[index] for name, values in scores.items()},
                "figures": None if readings is None else list(map(asdict, readings[index])),
            }
            for index in range(len(lines))
        ]

    def _embed_figures(
        self,
        images: Sequence[Image.Image],
        readings: Sequence[Sequence[Figure]],
        lines: Sequence[Mapping[str, Any]],
    ) -> list[Tensor]:
        """Return the features of each image's figures, all embedded at once, as the references'.

        Images of fewer than two concepts get none: nothing compares their figures.
        """
        crops = [
            [square_crop(image, figure.box) for figure in figures if len(line["concepts"]) > 1]
            for image, figures, line in zip(images, readings, lines, strict=True)
        ]
        together = [crop for found in crops for crop in found]
        own_ND = self.reader.embed(together) if self.reader is not None else None
        features_ND = self.judge.embed_images(together) if own_ND is None else own_ND
        return list(features_ND.split([len(found) for found in crops]))

    def _judged(self, line: Mapping[str, Any], found: Mapping[str, Any]) -> Row:
        if found["figures"] is None:
            return Row(line, found["scores"])
        figures = [Figure(**figure | {"box": tuple(figure["box"])}) for figure in found["figures"]]
        judgement = judge_line(
            line,
            figures,
            names=self.names,
            truth=self.truth,
            presence_threshold=self.presence_threshold,
            identity_threshold=self.identity_threshold,
        )
        return Row(line, found["scores"], figures, judgement)


def judge_line(
    line: Mapping[str, Any],
    figures: Sequence[Figure],
    *,
    names: Sequence[str],
    truth: Truth | None,
    presence_threshold: float,
    identity_threshold: float,
) -> Judgement | None:
    """Judge an image against the concepts that its prompt names, or a prior image against its text.

    Args:
        line: of `generations.jsonl`.
        figures: what the reader found.
        names: all concepts.
        truth: concept -> slot -> value.
        presence_threshold: agreement from which a figure can stand for a concept, in [0, 1].
        identity_threshold: identity that an image without confusion needs of every concept, in
            [0, 1].

    Returns:
        The judgement; None where the truth is not known.
    """
    named, others = line["concepts"], None
    if line["kind"] == "prior":
        truth = {str(index): slots for index, slots in enumerate(line.get("expected") or [])}
        if not truth or any(figure.likeness is not None for figure in figures):
            return None
        named = list(truth)
    elif line["kind"] == "single":
        # Also compared with all other concepts: the baseline that leakage is measured against.
        others = names
    if truth is None:
        return None
    return judge_image(
        figures,
        named,
        truth=truth,
        sides=line["sides"],
        others=others,
        presence_threshold=presence_threshold,
        identity_threshold=identity_threshold,
    )


def open_image(file: Path) -> Image.Image:
    """Open an image as RGB, fully loaded."""
    with Image.open(file) as image:
        return image.convert("RGB")
