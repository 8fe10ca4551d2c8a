"""Pairs of concepts that the base model has always known: are near ones confused more?

The question of the paper's Fig. 2, without any customisation: "a cat on the left and a lynx on the
right", or two of the names that stand for a whole look. Only of ToonWorld, whose oracle reads them.
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
from clif_exp.toonworld.names import named_characters
from clif_exp.toonworld.world import FAMILY_OF, SPECIES

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.evaluation.figures import FigureReader
    from clif_exp.evaluation.settings import EvaluationSettings, GeneralConcepts


def general_pairs(of: GeneralConcepts, *, count: int) -> list[tuple[str, str]]:
    """Return the first pairs, in turn of likes and of others; more keep those before.

    Args:
        of: species, of which likes are of one family; or names, of which likes are of one species
            and each is in one pair only, so that pairs are independent.
        count: how many, at most `GeneralPairsSettings.MOST`.
    """
    rng = prompt_rng(0, "general pairs", of)
    if of == "species":
        pairs = list(itertools.combinations(SPECIES, 2))
        rng.shuffle(pairs)
        alike = [pair for pair in pairs if FAMILY_OF[pair[0]] == FAMILY_OF[pair[1]]]
        other = [pair for pair in pairs if pair not in alike]
        turns = itertools.chain.from_iterable(itertools.zip_longest(alike, other))
        return [pair for pair in turns if pair is not None][:count]
    looks = named_characters()
    left = rng.sample(list(looks), len(looks))
    found = []
    for index in range(count):
        a = left.pop()
        alike_wanted = index % 2 == 0
        b = next(b for b in left if (looks[a].species == looks[b].species) == alike_wanted)
        left.remove(b)
        found.append((a, b))
    return found


def general_pair_prompts(of: GeneralConcepts, *, count: int) -> list[EvaluationPrompt]:
    """Return two prompts for each pair, which stands either way round; arguments as above."""
    prompts = []
    for pair in general_pairs(of, count=count):
        for a, b in (pair, pair[::-1]):
            said = [indefinite(name) if of == "species" else name for name in (a, b)]
            text = f"{TOONWORLD.stems['reporting']} {TOONWORLD.side.format(a=said[0], b=said[1])}"
            prompts.append(
                EvaluationPrompt(
                    id=f"general-{a}-{b}",
                    text=text,
                    kind="prior",
                    layout="side",
                    concepts=(),
                    class_text=text,
                    sides=("left", "right"),
                    expected=(_look(of, a), _look(of, b)),
                )
            )
    return prompts


def _look(of: GeneralConcepts, name: str) -> dict[str, str]:
    """Slot -> value of what a word asks for: of a species nothing else."""
    return {"species": name} if of == "species" else named_characters()[name].attributes()


def judge_general_pairs(
    out: Path, *, images: Path, spec: BaseModels, settings: EvaluationSettings, device: str = "cpu"
) -> None:
    """Read the base model's images of general pairs, and write `distance_confusion.json`.

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
    """Judge a batch of images, each against what its two words ask for."""
    opened = [Image.open(folder / line["file"]).convert("RGB") for line in lines]
    judged = []
    for line, figures in zip(lines, reader.read(opened), strict=True):
        pair = line["prompt_id"].split("-")[1:]
        judged.append(
            judge_image(
                figures,
                pair,
                truth=dict(zip(pair, line["expected"], strict=True)),
                sides=line["sides"],
                presence_threshold=settings.presence_threshold,
                identity_threshold=settings.identity_threshold,
            )
        )
    return judged
