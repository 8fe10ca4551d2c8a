"""The subjects that MuDI tells apart (Jang et al., NeurIPS 2024, arXiv 2404.04243), in prompts.

The pairs and the five subjects are those of its repository (agwmon/MuDI, dataset/category), chosen
there from DreamBench and CustomConcept101; the sentences are ours (`worlds.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clif_exp.prompts.articles import with_article
from clif_exp.prompts.sentences import Sentence
from clif_exp.prompts.worlds import PromptWorld, Split

PAIRS = (
    ("cat2", "pet_dog1"),
    ("dog6", "dog2"),
    ("monster_toy", "robot_toy"),
    ("bear_plushie", "robot_toy"),
    ("can", "monster_toy"),
    ("actionfigure_2", "dog0"),
    ("plushie_teddybear", "bear_plushie"),
    ("scene_castle", "scene_lighthouse"),
)
# In the order in which its study of two to five subjects adds them.
FIVE = ("actionfigure_2", "can", "monster_toy", "robot_toy", "plushie_teddybear")
# CustomConcept101 puts the kind first; a folder of the user's may not.
_SHORT = {
    "plushie_teddybear": "teddybear",
    "scene_castle": "castle",
    "scene_lighthouse": "lighthouse",
}


def mudi_prompts(
    concepts: Mapping[str, str],
    *,
    aliases: Mapping[str, str],
    world: PromptWorld,
    split: Split,
) -> list[Sentence]:
    """Ask for each pair that is there, plain and in every place, and for three and five in a row.

    Args:
        concepts: name -> class word.
        aliases: what a concept is called in its set -> name.
        world: whose words.
        split: of the words.

    Returns:
        The sentences. Three are the first three of the five that are there.

    Raises:
        ValueError: no pair is there.
    """

    def present(subject: str) -> str | None:
        names = (subject, _SHORT.get(subject, subject))
        called = [aliases.get(name, name) for name in names]
        return next((name for name in called if name in concepts), None)

    stem = world.stems[split]
    sentences = []
    for pair in PAIRS:
        named = [name for subject in pair if (name := present(subject))]
        for place in (None, *world.places[split]) if len(named) == 2 else ():
            sentences.append(_sentence(stem, named, concepts, context=place))
    row = [name for subject in FIVE if (name := present(subject))]
    for count in (3, 5):
        if len(row) >= count:
            sentences.append(_sentence(stem, row[:count], concepts, ending="in a row"))
    if not sentences:
        raise ValueError(
            "generation.prompts.source: found 'mudi', but the set has none of its pairs, such as"
            f" {PAIRS[2][0]} and {PAIRS[2][1]}; choose them by dataset.names, or use"
            " generation.prompts.source=built"
        )
    return sentences


def _sentence(
    stem: str,
    named: Sequence[str],
    concepts: Mapping[str, str],
    *,
    context: str | None = None,
    ending: str = "",
) -> Sentence:
    def write(words: Sequence[str]) -> str:
        listed = f"{', '.join(words[:-1])} and {words[-1]}"
        return " ".join(part for part in (stem, listed, context, ending) if part)

    return Sentence(
        write([f"<{name}>" for name in named]),
        write([with_article(concepts[name]) for name in named]),
        context,
    )
