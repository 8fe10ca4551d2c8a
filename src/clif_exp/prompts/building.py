"""Builds the prompts that a run is judged by."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from clif_exp.concepts.pairs import seen_pairs
from clif_exp.prompts.articles import with_article
from clif_exp.prompts.evaluation import (
    EvaluationPrompt,
    Layout,
    PairLayout,
    cycle,
    prompt_rng,
    prompted_sides,
)
from clif_exp.prompts.prior import prior_capacity, prior_prompts
from clif_exp.prompts.settings import PromptSettings
from clif_exp.prompts.worlds import WORLDS, PromptWorld, Split


def select_pairs(
    concepts: Mapping[str, str], *, count: int | None, seen: set[frozenset[str]], seed: int
) -> list[tuple[str, str]]:
    """Choose pairs of concepts for the multi prompts.

    Confusion needs likeness, so pairs that share a class word come first among equals; seen and
    unseen pairs take turns as far as there are any; and of the pairs left in a stratum, those with
    the least-used concepts are taken.

    Args:
        concepts: name -> class word.
        count: how many pairs; None takes all.
        seen: the pairs that M-Aug trained on.
        seed: picks the order within ties.

    Returns:
        Ordered pairs: the first is named first in the prompt. Deterministic in the arguments.
    """
    names = sorted(concepts)
    rng = prompt_rng(seed, "pairs", *names)
    pairs = [tuple(rng.sample(pair, 2)) for pair in itertools.combinations(names, 2)]
    rng.shuffle(pairs)
    strata: dict[tuple[bool, bool], list[tuple[str, str]]] = {
        (alike, known): [] for alike in (True, False) for known in (True, False)
    }
    for a, b in pairs:
        strata[concepts[a] == concepts[b], frozenset((a, b)) in seen].append((a, b))
    used = dict.fromkeys(names, 0)
    chosen: list[tuple[str, str]] = []
    while len(chosen) < (len(pairs) if count is None else count) and any(strata.values()):
        for stratum in strata.values():
            if stratum and (count is None or len(chosen) < count):
                pair = min(stratum, key=lambda p: used[p[0]] + used[p[1]])
                stratum.remove(pair)
                used[pair[0]] += 1
                used[pair[1]] += 1
                chosen.append(pair)
    return chosen


def _fill(
    template: str, names: Sequence[str], concepts: Mapping[str, str], **words: str
) -> tuple[str, str]:
    """The prompt and its class-word version."""
    slots = dict(zip("abc", names, strict=False))
    text = template.format(**{slot: f"<{name}>" for slot, name in slots.items()}, **words)
    class_text = template.format(
        **{slot: with_article(concepts[name]) for slot, name in slots.items()}, **words
    )
    return text, class_text


def single_prompts(
    concepts: Mapping[str, str],
    *,
    world: PromptWorld,
    per_concept: int,
    split: Split,
    seed: int,
) -> list[EvaluationPrompt]:
    """One plain prompt per concept, then the same in different places, `per_concept` in all."""
    prompts = []
    for name in concepts:
        places = cycle(world.places[split], per_concept - 1, prompt_rng(seed, "single", name))
        for index, place in enumerate([None, *places][:per_concept]):
            stem = world.stems[split] + " {a}"
            text, class_text = _fill(
                stem if place is None else stem + " {where}", [name], concepts, where=place or ""
            )
            layout: Layout = "free" if place is None else "context"
            prompts.append(
                EvaluationPrompt(
                    f"single-{name}-{layout}-{index}",
                    text,
                    "single",
                    layout,
                    (name,),
                    class_text,
                    None,
                    place,
                    split=split,
                )
            )
    return prompts


def multi_prompts(
    concepts: Mapping[str, str],
    *,
    world: PromptWorld,
    pairs: int | None,
    per_pair: Mapping[PairLayout, int],
    seen: set[frozenset[str]],
    split: Split,
    seed: int,
) -> list[EvaluationPrompt]:
    """Prompts that name two concepts, `per_pair[layout]` of each layout for each chosen pair.

    Interactions take turns over all pairs, so that each is asked for as often.
    """
    prompts = []
    used = dict.fromkeys(world.interactions[split], 0)
    for pair in select_pairs(concepts, count=pairs, seen=seen, seed=seed):
        rng = prompt_rng(seed, "multi", *pair)
        for layout, count in per_pair.items():
            bodies = cycle(_bodies(world, layout, split), count, rng)
            if layout == "interaction" and count:
                bodies = _least_used(bodies, world.interactions[split], count=count, used=used)
            for index, (body, place, relation) in enumerate(bodies):
                # Every second prompt of a layout names the pair the other way round.
                named = pair if index % 2 == 0 else pair[::-1]
                text, class_text = _fill(
                    f"{world.stems[split]} {body}", named, concepts, where=place or ""
                )
                prompts.append(
                    EvaluationPrompt(
                        id=f"multi-{named[0]}-{named[1]}-{layout}-{index}",
                        text=text,
                        kind="multi",
                        layout=layout,
                        concepts=tuple(named),
                        class_text=class_text,
                        sides=prompted_sides(body),
                        context=place,
                        seen=frozenset(pair) in seen,
                        split=split,
                        relation=relation,
                    )
                )
    return prompts


def row_prompts(
    concepts: Mapping[str, str],
    *,
    world: PromptWorld,
    count: int,
    seen: set[frozenset[str]],
    split: Split,
    seed: int,
) -> list[EvaluationPrompt]:
    """Prompts that name three concepts from left to right, as many different threes as there are.

    Those whose pairs were all seen and the others take turns.
    """
    rng = prompt_rng(seed, "row", *sorted(concepts))
    threes = [tuple(rng.sample(three, 3)) for three in itertools.combinations(sorted(concepts), 3)]
    rng.shuffle(threes)
    known = {
        three: all(frozenset(pair) in seen for pair in itertools.combinations(three, 2))
        for three in threes
    }
    turns = itertools.zip_longest(
        [three for three in threes if known[three]], [three for three in threes if not known[three]]
    )
    chosen = [three for turn in turns for three in turn if three is not None][:count]
    prompts = []
    for named in chosen:
        text, class_text = _fill(f"{world.stems[split]} {world.row}", named, concepts)
        prompts.append(
            EvaluationPrompt(
                id=f"multi-{'-'.join(named)}-row-0",
                text=text,
                kind="multi",
                layout="row",
                concepts=named,
                class_text=class_text,
                sides=("0", "1", "2"),
                seen=known[named],
                split=split,
            )
        )
    return prompts


Body = tuple[str, str | None, str | None]  # sentence, place, relation


def _bodies(world: PromptWorld, layout: PairLayout, split: Split) -> list[Body]:
    """The sentences of a layout, each with its place or relation."""
    if layout == "side":
        return [(world.side, None, None)]
    if layout == "interaction":
        return [(body, None, relation) for relation, body in world.interactions[split].items()]
    places = world.places[split] if layout == "context" else (None,)
    return [
        (world.free[split] if place is None else world.free[split] + " {where}", place, None)
        for place in places
    ]


def _least_used(
    preferred: Sequence[Body], interactions: Mapping[str, str], *, count: int, used: dict[str, int]
) -> list[Body]:
    """Take the interactions that were used least, in place of the preferred ones; counts them.

    No interaction comes twice for a pair before all came once.
    """
    order = list(dict.fromkeys([*(body[2] or "" for body in preferred), *interactions]))
    taken: list[str] = []
    for _ in range(count):
        relation = min(order, key=lambda name: (taken.count(name), used[name]))
        taken.append(relation)
        used[relation] += 1
    return [(interactions[relation], None, relation) for relation in taken]


def build_prompts(
    concepts: Mapping[str, str], *, settings: PromptSettings
) -> list[EvaluationPrompt]:
    """Build the whole prompt set of a run.

    Args:
        concepts: name -> class word, in the order of the concept set.
        settings: whose words, which split, and how many of each kind.

    Raises:
        ValueError: more prompts without a concept than the world has.
    """
    world, split, seed = WORLDS[settings.world], settings.split, settings.seed
    prior = built_prior(settings)
    return [
        *single_prompts(
            concepts, world=world, per_concept=settings.single_per_concept, split=split, seed=seed
        ),
        *multi_prompts(
            concepts,
            world=world,
            pairs=settings.pairs,
            per_pair=settings.per_pair,
            seen=seen_pairs(list(concepts)),
            split=split,
            seed=seed,
        ),
        *row_prompts(
            concepts,
            world=world,
            count=settings.triples,
            seen=seen_pairs(list(concepts)),
            split=split,
            seed=seed,
        ),
        *prior,
    ]


def built_prior(settings: PromptSettings) -> list[EvaluationPrompt]:
    """Build the prompts without a concept.

    Raises:
        ValueError: there are to be more than the world has.
    """
    world, split = WORLDS[settings.world], settings.split
    if settings.prior > (most := prior_capacity(world, split)):
        raise ValueError(
            f"generation.prompts.prior: found {settings.prior}, but {settings.world} has {most}"
            f" different {split} prompts without a concept; lower it."
        )
    return prior_prompts(world=world, count=settings.prior, split=split, seed=settings.seed)
