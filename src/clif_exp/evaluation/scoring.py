"""Looks at images: scores each by the judges, reads its figures and judges them against its
prompt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from clif_exp.artifacts.files import write_text
from clif_exp.artifacts.sharing import share
from clif_exp.evaluation.alignment import Judge, image_scores, text_scores
from clif_exp.evaluation.assignment import Truth
from clif_exp.evaluation.confusion import Judgement, judge_image
from clif_exp.evaluation.figures import Figure, FigureReader

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One generated image: its line of `generations.jsonl`, its scores, and what was found in it
    (None: nobody looked).
    """

    line: Mapping[str, Any]
    scores: Mapping[str, float | None]
    figures: Sequence[Figure] | None = None
    judgement: Judgement | None = None


class Evaluator:
    """The judges of a run with the references they compare against, which are embedded once.

    Args:
        judge: of alignment.
        eye: of figures; None leaves images unread.
        names: all concepts.
        truth: concept -> slot -> value; None where nobody knows, so that only prior images are
            judged.
        references: concept -> reference images.
        threshold: agreement from which a figure can stand for a concept.
        batch_size: images at a time.
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
            images = [open_image(file) for file in files]
            self.clip_references[name] = judge.embed_images(images)
            if judge.dino is not None:
                self.dino_references[name] = judge.embed_images_dino(images)

    def examine(self, folder: Path, *, work: Path) -> list[Row]:
        """Score and judge every image of a generation artifact, in batches that processes share.

        Args:
            folder: the artifact.
            work: folder for what is examined so far; its parent exists as long as there is
                something to do.

        Returns:
            One row per image, in the order of the manifest.
        """
        lines = [
            json.loads(line) for line in (folder / "generations.jsonl").read_text().splitlines()
        ]
        batches = {
            f"batch_{start:06d}": lines[start : start + self.batch_size]
            for start in range(0, len(lines), self.batch_size)
        }
        work.mkdir(exist_ok=True)
        text_of: dict[str, Tensor] = {}

        def examine_batch(key: str) -> None:
            if not text_of:
                texts = sorted({line["text_for_alignment"] for line in lines})
                text_of.update(zip(texts, self.judge.embed_texts(texts), strict=True))
            content = json.dumps(self._look(folder, batches[key], text_of))
            write_text(work / f"{key}.json", content)

        def done(key: str) -> bool:
            return (work / f"{key}.json").is_file()

        share(work, batches, done=done, work=examine_batch, description="judging")
        seen = [
            found for key in batches for found in json.loads((work / f"{key}.json").read_text())
        ]
        return [self._judged(line, found) for line, found in zip(lines, seen, strict=True)]

    def _look(
        self, folder: Path, lines: Sequence[Mapping[str, Any]], text_of: Mapping[str, Tensor]
    ) -> list[dict[str, Any]]:
        """What the judges see in images: scores, and the figures as JSON."""
        import torch

        images = [open_image(folder / line["file"]) for line in lines]
        named = [line["concepts"] for line in lines]
        image_ND = self.judge.embed_images(images)
        scores: dict[str, Sequence[float | None]] = {
            **text_scores(
                image_ND, torch.stack([text_of[line["text_for_alignment"]] for line in lines])
            ),
            "image_alignment": image_scores(image_ND, named, self.clip_references),
        }
        if self.judge.dino is not None:
            scores["image_alignment_dino"] = image_scores(
                self.judge.embed_images_dino(images), named, self.dino_references
            )
        readings: Sequence[list[Figure] | None] = (
            self.eye.read(images) if self.eye is not None else [None] * len(lines)
        )
        return [
            {
                "scores": {key: values[index] for key, values in scores.items()},
                "figures": None if figures is None else [asdict(figure) for figure in figures],
            }
            for index, figures in enumerate(readings)
        ]

    def _judged(self, line: Mapping[str, Any], found: Mapping[str, Any]) -> Row:
        if found["figures"] is None:
            return Row(line, found["scores"])
        figures = [Figure(**figure | {"box": tuple(figure["box"])}) for figure in found["figures"]]
        judgement = judge_line(
            line, figures, names=self.names, truth=self.truth, threshold=self.threshold
        )
        return Row(line, found["scores"], figures, judgement)


def judge_line(
    line: Mapping[str, Any],
    figures: Sequence[Figure],
    *,
    names: Sequence[str],
    truth: Truth | None,
    threshold: float,
) -> Judgement | None:
    """Judge an image against the concepts that its prompt names, or a prior image against the
    figures that it describes.
    """
    sides = line["sides"]
    if line["kind"] == "prior":
        expected = {str(index): slots for index, slots in enumerate(line.get("expected") or [])}
        if not expected or any(figure.likeness is not None for figure in figures):
            return None
        return judge_image(
            figures, list(expected), truth=expected, sides=sides, presence_threshold=threshold
        )
    if truth is None:
        return None
    # A single image is also compared with everybody else: the baseline that leakage is measured
    # against.
    others = names if line["kind"] == "single" else None
    return judge_image(
        figures,
        line["concepts"],
        truth=truth,
        sides=sides,
        others=others,
        presence_threshold=threshold,
    )


def open_image(file: Path) -> Image.Image:
    """Open an image as RGB, fully loaded."""
    with Image.open(file) as image:
        return image.convert("RGB")
