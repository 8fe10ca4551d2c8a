"""Pairs of concepts that the base model has always known: are near ones confused more?

The question of the paper's Fig. 2, without any customisation: "a cat on the left and a lynx on the
right". Only species of ToonWorld, whose oracle reads them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from clif_exp.artifacts.files import read_jsonl, write_json
from clif_exp.evaluation.confusion import Judgement, judge_image
from clif_exp.evaluation.correlation import FILE, confusion_by_distance
from clif_exp.evaluation.distance import measure_words
from clif_exp.evaluation.matrices import confusion_per_pair
from clif_exp.evaluation.models import ReaderInputs
from clif_exp.prompts.articles import indefinite
from clif_exp.prompts.evaluation import EvaluationPrompt, prompt_rng
from clif_exp.prompts.worlds import TOONWORLD

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.evaluation.figures import FigureReader
    from clif_exp.evaluation.settings import EvaluationSettings


def general_pairs(count: int) -> list[tuple[str, str]]:
    """Return the first pairs of species: in turn of one family and of two; more keep those before.

    Args:
        count: how many, at most all 105.
    """
    from clif_exp.toonworld.world import FAMILY_OF, SPECIES

    pairs = list(itertools.combinations(SPECIES, 2))
    prompt_rng(0, "general pairs").shuffle(pairs)
    alike = [pair for pair in pairs if FAMILY_OF[pair[0]] == FAMILY_OF[pair[1]]]
    other = [pair for pair in pairs if pair not in alike]
    turns = itertools.chain.from_iterable(itertools.zip_longest(alike, other))
    return [pair for pair in turns if pair is not None][:count]


def general_pair_prompts(count: int) -> list[EvaluationPrompt]:
    """Return two prompts for each pair, which stands either way round."""
    prompts = []
    for pair in general_pairs(count):
        for a, b in (pair, pair[::-1]):
            named = TOONWORLD.side.format(a=indefinite(a), b=indefinite(b))
            text = f"{TOONWORLD.stems['reporting']} {named}"
            prompts.append(
                EvaluationPrompt(
                    id=f"general-{a}-{b}",
                    text=text,
                    kind="prior",
                    layout="side",
                    concepts=(),
                    class_text=text,
                    sides=("left", "right"),
                    expected=({"species": a}, {"species": b}),
                )
            )
    return prompts


def judge_general_pairs(
    out: Path, *, images: Path, spec: BaseModels, settings: EvaluationSettings, device: str = "cpu"
) -> None:
    """Read the base model's images of pairs of species, and write `distance_confusion.json`.

    Args:
        out: folder to write into.
        images: what generation published of `general_pair_prompts`.
        spec: base models.
        settings: the reader and its thresholds.
        device: torch device.
    """
    reader = settings.reader.build(ReaderInputs(spec, {}, device))
    assert reader is not None, "the settings ask for an oracle"
    lines = read_jsonl(images / "generations.jsonl")
    judged = []
    for start in range(0, len(lines), settings.batch_size):
        judged += _judge(images, lines[start : start + settings.batch_size], reader, settings)
    pairs = confusion_per_pair(judged)
    names = sorted({name for pair in pairs for name in pair.split("|")})
    distances = measure_words(spec, names, device=device)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / FILE, confusion_by_distance(pairs, names=names, distances=distances))


def _judge(
    folder: Path,
    lines: Sequence[Mapping[str, Any]],
    reader: FigureReader,
    settings: EvaluationSettings,
) -> list[Judgement]:
    """Judge a batch: of a figure nothing but its species is asked for."""
    opened = [Image.open(folder / line["file"]).convert("RGB") for line in lines]
    judged = []
    for line, figures in zip(lines, reader.read(opened), strict=True):
        pair = [slots["species"] for slots in line["expected"]]
        judged.append(
            judge_image(
                figures,
                pair,
                truth={name: {"species": name} for name in pair},
                sides=line["sides"],
                presence_threshold=settings.presence_threshold,
                identity_threshold=settings.identity_threshold,
            )
        )
    return judged
