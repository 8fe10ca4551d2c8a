"""Prior preservation (DreamBooth): what the untouched base model draws.

General prompts depend on the world that the base model knows and on their own settings only, those
of a class word on nothing but that word: all runs of a base model share the images, whatever their
cast, method and seed.
"""

from __future__ import annotations

from clif_exp.prompts.articles import with_article
from clif_exp.prompts.evaluation import EvaluationPrompt
from clif_exp.prompts.prior import prior_capacity, prior_prompts
from clif_exp.prompts.worlds import WORLDS


def general_prompts(world: str, *, count: int, seed: int) -> list[EvaluationPrompt]:
    """Return prompts of one figure and of two, with relations and places, none of them twice.

    No figure of the evaluation's prompts without a concept is in them, of neither split: what they
    measure is not what training has seen.

    Args:
        world: name in `prompts.worlds.WORLDS` of what the base model knows.
        count: how many, see `refuse_too_many`.
        seed: of their choice.
    """
    words = WORLDS[world]
    if world != "toonworld":
        return prior_prompts(world=words, count=count, split="training", seed=seed)
    from clif_exp.toonworld.prompts import sample_prompts

    judged = [phrase for figures in words.figures.values() for phrase, _ in figures]
    texts = sample_prompts(count, seed=seed, avoid=judged)
    return [
        EvaluationPrompt(f"prior-{index:02d}", text, "prior", "free", (), text, split="training")
        for index, text in enumerate(texts)
    ]


def general_texts(world: str, *, count: int, seed: int) -> list[str]:
    """Return the texts of `general_prompts`."""
    return [prompt.text for prompt in general_prompts(world, count=count, seed=seed)]


def refuse_too_many(world: str, *, count: int, field: str) -> None:
    """Refuse more general prompts than there are.

    Args:
        world: see `general_prompts`.
        count: how many a setting asks for.
        field: its name.

    Raises:
        ValueError: names the field, and how many there are.
    """
    if world != "toonworld" and count > (most := prior_capacity(WORLDS[world], "training")):
        raise ValueError(f"{field}: found {count}, but there are {most} general prompts; lower it.")


def class_prompt(class_word: str) -> EvaluationPrompt:
    """Return DreamBooth's prompt of a class word, "a photo of a cat"."""
    text = f"a photo of {with_article(class_word)}"
    return EvaluationPrompt("class", text, "prior", "free", (), text, split="training")
