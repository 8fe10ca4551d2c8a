"""Prior preservation (DreamBooth): what the untouched base model draws.

General prompts depend on the world that the base model knows and on their own settings only, those
of a class word on nothing but that word: all runs of a base model share the images, whatever their
cast, method and seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clif_exp.prompts.articles import with_article
from clif_exp.prompts.evaluation import EvaluationPrompt
from clif_exp.prompts.prior import prior_capacity, prior_prompts
from clif_exp.prompts.worlds import WORLDS

if TYPE_CHECKING:
    from clif_exp.diffusion.settings import PriorSettings


def general_prompts(world: str, *, settings: PriorSettings) -> list[EvaluationPrompt]:
    """Return prompts of one figure and of two, with relations and places, none of them twice.

    No figure of the evaluation's prompts without a concept is in them, of neither split: what they
    measure is not what training has seen.

    Args:
        world: name in `prompts.worlds.WORLDS` of what the base model knows.
        settings: how many, and their seed.

    Raises:
        ValueError: there are not as many.
    """
    words = WORLDS[world]
    if world != "toonworld":
        if settings.images > (most := prior_capacity(words, "training")):
            raise ValueError(
                f"diffusion.prior.images: found {settings.images}, but there are {most} general"
                " prompts; lower it."
            )
        return prior_prompts(
            world=words, count=settings.images, split="training", seed=settings.seed
        )
    from clif_exp.toonworld.prompts import sample_prompts

    judged = [phrase for figures in words.figures.values() for phrase, _ in figures]
    texts = sample_prompts(settings.images, seed=settings.seed, avoid=judged)
    return [
        EvaluationPrompt(f"prior-{index:02d}", text, "prior", "free", (), text, split="training")
        for index, text in enumerate(texts)
    ]


def class_prompt(class_word: str) -> EvaluationPrompt:
    """Return DreamBooth's prompt of a class word, "a photo of a cat"; seeds tell its images apart."""
    text = f"a photo of {with_article(class_word)}"
    return EvaluationPrompt("class", text, "prior", "free", (), text, split="training")
