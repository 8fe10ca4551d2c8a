"""Prompt sets: deterministic, balanced, and tuning apart from reporting."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest

from clif_exp.concepts.pairs import seen_pairs
from clif_exp.prompts.articles import with_article
from clif_exp.prompts.building import build_prompts, select_pairs
from clif_exp.prompts.evaluation import TRAINING_TEMPLATES
from clif_exp.prompts.prior import prior_capacity, prior_prompts
from clif_exp.prompts.worlds import WORLDS
from support import default_config, settings

CONCEPTS = {"rick": "man", "morty": "boy", "jerry": "man", "rex": "dog", "ann": "alien"}
ALL = {
    "pairs": None,
    "single_per_concept": 3,
    "per_pair": {"side": 1, "free": 1, "interaction": 2, "context": 2},
    "triples": 4,
    "prior": 5,
}


def prompt_set(concepts, **changes):
    return build_prompts(concepts, settings=settings("generation.prompts", **changes))


@pytest.mark.parametrize("world", list(WORLDS))
@pytest.mark.parametrize("split", ["tuning", "reporting"])
def test_prompts_name_their_concepts_and_their_class_words(world, split):
    prompts = prompt_set(CONCEPTS, world=world, split=split, **ALL)
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        assert tuple(re.findall(r"<(\w+)>", prompt.text)) in (
            prompt.concepts,
            prompt.concepts[::-1],
        )
        assert "<" not in prompt.class_text
        assert all(CONCEPTS[name] in prompt.class_text for name in prompt.concepts)
        assert (prompt.seen is None) == (prompt.kind != "multi")
        assert prompt.split == split
        assert "{" not in prompt.text


def test_articles_fit_the_class_word():
    texts = [
        prompt.class_text
        for prompt in prompt_set({"ann": "alien"}, pairs=0, prior=0, single_per_concept=1)
    ]
    assert texts == ["a photo of an alien"]


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("unicorn", "a unicorn"),
        ("European man", "a European man"),
        ("uninvited guest", "an uninvited guest"),
        ("umbrella", "an umbrella"),
        ("hourglass", "an hourglass"),
        ("house", "a house"),
        ("glasses", "glasses"),
        ("sneakers", "sneakers"),
    ],
)
def test_articles_follow_the_sound(phrase, said):
    assert with_article(phrase) == said
    texts = [
        prompt.class_text
        for prompt in prompt_set({"it": phrase}, pairs=0, prior=0, single_per_concept=1)
    ]
    assert texts == [f"a photo of {said}"]


def test_sides_are_those_of_the_sentence():
    prompts = [prompt for prompt in prompt_set(CONCEPTS, **ALL) if prompt.layout == "side"]
    assert prompts
    for prompt in prompts:
        a, b = prompt.concepts
        assert prompt.text == f"a photo of <{a}> on the left and <{b}> on the right"
        assert prompt.sides == ("left", "right")


@pytest.mark.parametrize("split", ["tuning", "reporting"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_interactions_take_turns_over_the_pairs(split, count):
    prompts = [
        prompt
        for prompt in prompt_set(CONCEPTS, pairs=9, split=split, per_pair={"interaction": count})
        if prompt.layout == "interaction"
    ]
    relations = Counter(prompt.relation for prompt in prompts)
    assert relations == dict.fromkeys(["hugging", "behind", "riding"], 3 * count)
    words = WORLDS["toonworld"].interactions[split]
    for prompt in prompts:
        a, b = (f"<{name}>" for name in prompt.concepts)
        assert prompt.text.endswith(words[prompt.relation].format(a=a, b=b))
    for pair in {frozenset(prompt.concepts) for prompt in prompts}:
        own = Counter(p.relation for p in prompts if frozenset(p.concepts) == pair)
        assert max(own.values()) - min(own.values()) <= 1
        assert len(own) == min(count, 3)


def test_only_interactions_have_a_relation():
    for prompt in prompt_set(CONCEPTS, **ALL):
        assert (prompt.relation is not None) == (prompt.layout == "interaction")
        assert ("relation" in prompt.to_json()) == (prompt.layout == "interaction")


def test_three_in_a_row_are_named_from_left_to_right_seen_and_unseen_in_turn():
    rows = [p for p in prompt_set(CONCEPTS, triples=100) if p.layout == "row"]
    assert len(rows) == 10, "of five concepts"
    assert len({frozenset(row.concepts) for row in rows}) == 10
    seen = seen_pairs(list(CONCEPTS))
    for row in rows:
        a, b, c = row.concepts
        assert row.text == f"a photo of <{a}>, <{b}> and <{c}> in a row"
        assert row.class_text.count(" a") + row.class_text.count(" an") >= 3
        assert row.sides == ("0", "1", "2")
        pairs = {frozenset(pair) for pair in itertools.combinations(row.concepts, 2)}
        assert row.seen == (pairs <= seen)
    assert rows[0].seen
    assert not rows[1].seen
    fewer = prompt_set(CONCEPTS, triples=2)
    assert [p for p in fewer if p.layout == "row"] == rows[:2]
    assert [p for p in fewer if p.layout != "row"] == prompt_set(CONCEPTS, triples=0)


def test_the_same_seed_gives_the_same_prompts_and_another_seed_others():
    assert prompt_set(CONCEPTS, **ALL, seed=3) == prompt_set(CONCEPTS, **ALL, seed=3)
    assert prompt_set(CONCEPTS, **ALL, seed=3) != prompt_set(CONCEPTS, **ALL, seed=4)


def test_asking_for_more_of_one_kind_keeps_the_others():
    few = prompt_set(CONCEPTS, **ALL | {"prior": 1, "single_per_concept": 1})
    many = prompt_set(CONCEPTS, **ALL)
    assert [p for p in few if p.kind == "multi"] == [p for p in many if p.kind == "multi"]
    assert {q.text for q in few if q.kind == "prior"} <= {q.text for q in many}


@pytest.mark.parametrize("world", list(WORLDS))
def test_tuning_and_reporting_share_no_prompt_and_no_place(world):
    tuning, reporting = (
        prompt_set(CONCEPTS, world=world, split=split, **ALL) for split in ("tuning", "reporting")
    )
    assert not {prompt.text for prompt in tuning} & {prompt.text for prompt in reporting}
    assert not {prompt.context for prompt in tuning if prompt.context} & {
        prompt.context for prompt in reporting
    }


def test_pairs_start_with_look_alikes_and_use_every_concept():
    seen = {frozenset(("rick", "jerry"))}
    assert set(select_pairs(CONCEPTS, count=1, seen=seen, seed=0)[0]) == {"rick", "jerry"}
    chosen = select_pairs(CONCEPTS, count=4, seen=seen, seed=0)
    assert {name for pair in chosen for name in pair} == set(CONCEPTS)
    assert len(select_pairs(CONCEPTS, count=None, seen=seen, seed=0)) == 10


def test_toonworld_knows_every_word_of_its_prompts_and_templates():
    from clif_exp.toonworld.grammar import VOCABULARY
    from clif_exp.toonworld.world import SLOTS

    texts = [template.format("") for template in TRAINING_TEMPLATES]
    for split in ("tuning", "reporting"):
        concepts = {"ann": "alien", "rex": "dog", "rick": "man"}
        prompts = prompt_set(concepts, split=split, **ALL | {"prior": 160})
        texts += [prompt.class_text for prompt in prompts]
        for prompt in prompts:
            for figure in prompt.expected:
                assert all(
                    value in SLOTS[slot] and (value in prompt.text)
                    for slot, value in figure.items()
                )
    unknown = {word for text in texts for word in text.replace(",", " ,").split()} - set(VOCABULARY)
    assert not unknown


@pytest.mark.parametrize("split", ["tuning", "reporting"])
@pytest.mark.parametrize("world", list(WORLDS))
def test_prompts_without_a_concept_all_differ_and_take_turns(world, split):
    words = WORLDS[world]
    most = prior_capacity(words, split)
    assert most >= 2 * settings("generation.prompts").prior >= 64
    texts = [p.text for p in prior_prompts(world=words, count=most, split=split, seed=0)]
    assert len(set(texts)) == most
    phrases = [phrase for phrase, _ in words.figures[split]]
    named = [sum(phrase in text for phrase in phrases) for text in texts[: 2 * len(phrases)]]
    assert named == [1, 2] * len(phrases), "one figure and two in turn"
    assert all(sum(p in text for text in texts[: 2 * len(phrases)]) == 3 for p in phrases)
    with pytest.raises(ValueError, match=rf"prior: found {most + 1}, but .* has {most} different"):
        prompt_set(CONCEPTS, **ALL | {"prior": most + 1, "world": world, "split": split})


@pytest.mark.parametrize("world", list(WORLDS))
def test_splits_share_no_figure_without_a_concept(world):
    figures = WORLDS[world].figures
    for split, others in ((a, b) for a in ("tuning", "reporting") for b in figures if a != b):
        prompts = prior_prompts(world=WORLDS[world], count=40, split=others, seed=0)
        assert not [
            (phrase, prompt.text)
            for phrase, _ in figures[split]
            for prompt in prompts
            if phrase in prompt.text
        ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("world=mars", r"generation\.prompts\.world: found 'mars'"),
        ("split=test", r"generation\.prompts\.split: found 'test'"),
        ("+per_pair.above=1", r"generation\.prompts\.per_pair\.above"),
        ("per_pair.side=-1", r"generation\.prompts\.per_pair\.side: found -1"),
        ("prior=1.5", r"generation\.prompts\.prior: found 1\.5"),
    ],
)
def test_bad_settings_are_refused(override, message):
    plus, name = override[: override.startswith("+")], override.removeprefix("+")
    with pytest.raises(ValueError, match=message):
        default_config(f"{plus}generation.prompts.{name}")
