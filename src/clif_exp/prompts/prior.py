"""Prompts without any concept: what customisation may have broken, and must keep."""

from __future__ import annotations

from clif_exp.prompts.evaluation import (
    EvaluationPrompt,
    cycle,
    prompt_rng,
    prompted_sides,
)
from clif_exp.prompts.worlds import PromptWorld, Split


def prior_prompts(
    *, world: PromptWorld, count: int, split: Split, seed: int
) -> list[EvaluationPrompt]:
    """Prompts without any concept, of one figure and of two in turn: what training may have broken.

    All differ, and a figure comes again only when all others have come, in another place or with
    another partner.

    Args:
        world: whose words.
        count: how many, at most `prior_capacity`.
        split: of the words.
        seed: of the order.
    """
    assert count <= prior_capacity(world, split)
    rng = prompt_rng(seed, "prior")
    figures = rng.sample(world.figures[split], len(world.figures[split]))
    places = rng.sample(("", *world.places[split]), len(world.places[split]) + 1)
    of_pairs = cycle(places, count, prompt_rng(seed, "prior", "places"))
    relations = cycle(_relations(world, split), count, prompt_rng(seed, "prior", "relations"))
    prompts = []
    for index in range(count):
        lap, turn = divmod(index // 2, len(figures))
        if index % 2 == 0:
            shown = [figures[turn]]
            body, place = "{a}", places[(turn + lap) % len(places)]
        else:
            shown = [figures[turn], figures[(turn + lap + 1) % len(figures)]]
            body, place = relations[index // 2], of_pairs[index // 2]
        named = body.format(**dict(zip("ab", (phrase for phrase, _ in shown), strict=False)))
        text = f"{world.stems[split]} {named} {place}".strip()
        prompts.append(
            EvaluationPrompt(
                f"prior-{index:02d}",
                text,
                "prior",
                "free",
                (),
                text,
                prompted_sides(body) if all(slots for _, slots in shown) else None,
                expected=tuple(slots for _, slots in shown if slots),
                split=split,
            )
        )
    return prompts


def prior_capacity(world: PromptWorld, split: Split) -> int:
    """How many different prompts without a concept a world has."""
    figures, places = len(world.figures[split]), len(world.places[split]) + 1
    return 2 * figures * min(places, figures - 1)


def _relations(world: PromptWorld, split: Split) -> list[str]:
    """Sentences of two figures: as often without a position, with one, and doing something."""
    interactions = world.interactions[split].values()
    return [body for doing in interactions for body in (world.free[split], world.side, doing)]
