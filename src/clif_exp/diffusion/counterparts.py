"""The concepts' own images, told by class words: what must stay the base model's.

An image teaches "<milo> next to <otto>"; of the very same image, told as "a fox next to a fox",
the U-Net goes on predicting what the base's does. So what is learnt hangs on the concepts' tokens,
and not on the rest of a caption or on the image alone: strangers keep their own clothes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from clif_exp.diffusion.images import COUNTERPARTS, PAIR, PRIOR, SINGLE, TrainingImage
from clif_exp.prompts.articles import with_article

if TYPE_CHECKING:
    from clif_exp.concepts.concept import ConceptSet

# What training templates put before a concept; a noun takes no article of its own after it.
_DETERMINED = re.compile(r"\b(?:an?|the|my|one|nice|cool)\s+$", re.IGNORECASE)
_CONCEPT = re.compile(r"<([^<>]+)>")


def counterparts(images: Sequence[TrainingImage], *, concepts: ConceptSet) -> list[TrainingImage]:
    """Return the single images and pairs as prior images, with class words in their captions.

    They weigh the same everywhere, as all prior images do.

    Args:
        images: of all kinds.
        concepts: whose.
    """
    words = {concept.name: concept.class_word for concept in concepts.concepts}
    return [
        replace(
            image,
            kind=PRIOR,
            subject=COUNTERPARTS,
            captions=tuple(dict.fromkeys(by_class_words(text, words) for text in image.captions)),
            masks=(),
        )
        for image in images
        if image.kind in (SINGLE, PAIR)
    ]


def by_class_words(caption: str, words: Mapping[str, str]) -> str:
    """Name concepts by their class words: "a photo of <milo>" is "a photo of a fox".

    Args:
        caption: with concepts as `<name>`.
        words: name -> class word; what has none stays.
    """

    def named(found: re.Match[str]) -> str:
        if (word := words.get(found[1])) is None:
            return found[0]
        return word if _DETERMINED.search(caption[: found.start()]) else with_article(word)

    return _CONCEPT.sub(named, caption)
