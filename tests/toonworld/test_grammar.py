import re

import numpy as np
import pytest

from clif_exp.toonworld.cast import NAMES, default_cast
from clif_exp.toonworld.drawing.render import LABELS_PER_FIGURE, render
from clif_exp.toonworld.grammar import VOCABULARY, caption, full_caption, phrase, truth
from clif_exp.toonworld.scenes import sample_scene
from clif_exp.toonworld.world import COLOURS, SLOTS, SPECIES


def captioned(kind=None, count=200, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        scene = sample_scene(rng, kind=kind, allow_cast_only=True)
        yield scene, caption(scene, rng)


def words_of(text):
    return re.findall(r"[^\s,]+|,", text)


def test_captions_use_only_the_vocabulary_and_are_short():
    for scene, text in captioned(count=600):
        for sentence in (text, full_caption(scene)):
            assert set(words_of(sentence)) <= set(VOCABULARY)
            assert len(words_of(sentence)) < 70 or (sentence != text and len(scene.figures) == 3)
            assert "  " not in sentence
            assert sentence == sentence.strip()
            assert "none" not in sentence


def test_names_of_the_cast_are_not_words():
    assert not set(NAMES) & set(VOCABULARY)
    assert list(VOCABULARY) == sorted(set(VOCABULARY))
    assert {word for values in SLOTS.values() for value in values for word in value.split()} - {
        "none"
    } <= set(VOCABULARY)


def test_captions_mention_nothing_that_is_not_there():
    for scene, text in captioned(count=400):
        there = {
            value for figure in scene.figures for value in figure.character.attributes().values()
        }
        there |= {value for item in scene.items for value in (item.kind, item.colour, item.pattern)}
        bare = text.replace("white background", "")
        for value in [
            *COLOURS,
            *SPECIES,
            *SLOTS["pattern"],
            *SLOTS["top"],
            *SLOTS["bottom"],
            *SLOTS["accessory"],
            *SLOTS["hat"],
        ]:
            if re.search(rf"\b{value}\b", bare):
                assert value in there, (value, text)


def test_articles_are_right():
    for _, text in captioned(count=400):
        assert not re.search(r"\ba [aeiou]", text), text
        assert not re.search(r"\ban [^aeiou]", text), text
        assert not re.search(
            r"\ban? ((?!and|of|with|wearing)\w+ ){0,2}(trousers|shorts|glasses)\b", text
        ), text


def mean_x(rendering, element):
    return np.nonzero(rendering.mask(element))[1].mean()


@pytest.mark.parametrize("kind", ["pair", "pair_white", "parts"])
def test_left_is_left_by_the_label_map(kind):
    checked = 0
    for scene, text in captioned(kind, count=150, seed=3):
        if " on the left and " not in text or len(scene.figures) + len(scene.items) != 2:
            continue
        first_words = text.split(" on the left and ")[0]
        rendering = render(scene)
        left = 0 if mean_x(rendering, 0) < mean_x(rendering, 1) else 1
        elements = [*scene.figures, *scene.items]
        other = elements[1 - left]
        name, other_name = (
            getattr(e, "kind", None) or e.character.species for e in (elements[left], other)
        )
        if name != other_name and not re.search(r"\b(animal|person|hat)\b", first_words):
            assert re.search(rf"\b{name}\b", first_words), (text, name)
            checked += 1
    assert checked >= 10


def test_hats_and_accessories_are_mentioned_for_all_figures_or_none():
    one_of_two = 0
    for scene, text in captioned("pair", count=400, seed=6):
        for slot in ("hat", "accessory"):
            things = [getattr(figure.character, slot) for figure in scene.figures]
            there = [thing for thing in things if thing != "none"]
            mentioned = [
                thing
                for thing in there
                if re.search(rf"\b{thing}\b", text)
                or (slot == "hat" and re.search(r"\bhats?\b", text))
            ]
            assert len(mentioned) in (0, len(there)), (things, text)
            one_of_two += len(mentioned) == 1
    assert one_of_two > 40


@pytest.mark.parametrize("interaction", ["next to", "hugging", "behind"])
def test_two_figures_are_mostly_named_from_left_to_right(interaction):
    in_order = []
    for scene, text in captioned("pair", count=600, seed=7):
        names = [
            figure.character.species
            for figure in sorted(scene.figures, key=lambda figure: figure.x)
        ]
        places = [re.search(rf"\b{name}\b", text) for name in names]
        if (
            scene.interaction == interaction
            and " on the left" not in text
            and all(places)
            and names[0] != names[1]
        ):
            in_order.append(places[0].start() < places[1].start())
    assert len(in_order) > 40
    assert 0.8 < np.mean(in_order) < 0.97


def test_who_stands_behind_is_said_either_way():
    ways = {"behind": 0, "in front of": 0}
    for scene, text in captioned("pair", count=300, seed=8):
        species = [figure.character.species for figure in scene.figures]
        told = {way: f" {way} " in text for way in ways}
        assert any(told.values()) == (scene.interaction == "behind"), text
        for way, named in (("behind", species), ("in front of", species[::-1])):
            places = [re.search(rf"\b{name}\b", text) for name in named]
            if told[way] and all(places) and named[0] != named[1]:
                ways[way] += 1
                assert places[0].start() < text.index(f" {way} ") < places[1].start(), text
    assert min(ways.values()) > 5


@pytest.mark.parametrize("interaction", ["next to", "left of", "hugging", "behind", "riding"])
def test_interactions_are_true_of_the_image(interaction):
    found = 0
    for scene, _ in captioned("pair", count=150, seed=4):
        if scene.interaction != interaction:
            continue
        found += 1
        rendering = render(scene)
        (x0, _, x1, y1), (u0, _, u1, v1) = rendering.boxes
        if interaction == "left of":
            assert mean_x(rendering, 0) < mean_x(rendering, 1)
        if interaction in ("next to", "left of"):
            assert min(min(shares.values()) for shares in rendering.visibility) > 0.55
        if interaction == "hugging":
            assert min(x1, u1) - max(x0, u0) > -2
        if interaction == "behind":
            assert sum(rendering.visibility[0].values()) < sum(rendering.visibility[1].values()) + 9
            assert y1 < v1
            assert min(rendering.visibility[1].values()) == 1.0
        if interaction == "riding":
            assert y1 < v1
            assert (rendering.labels // LABELS_PER_FIGURE).max() <= 2
            assert min(rendering.visibility[0].values()) == 1.0
    assert found >= 10


def test_truth_tells_hidden_from_absent():
    hidden = 0
    for scene, _ in captioned(count=100, seed=5):
        rendering = render(scene)
        told = truth(scene, rendering)
        assert len(told) == len(scene.figures)
        for figure, values, visibility in zip(
            scene.figures, told, rendering.visibility, strict=False
        ):
            assert list(values) == list(SLOTS)
            for slot, value in values.items():
                assert value in (getattr(figure.character, slot), "not visible")
            for part in ("hat", "bottom"):
                assert (values[part] == "not visible") == (
                    values[f"{part}_colour"] == "not visible"
                )
            if "bottom" in visibility:
                assert (values["bottom"] == "not visible") == (visibility["bottom"] < 0.35)
            hidden += "not visible" in values.values()
    assert hidden > 5
    alone = truth(sample_scene(np.random.default_rng(0), kind="single"))
    assert "not visible" not in alone[0].values()


def test_full_phrases_mention_every_attribute():
    milo = default_cast()["milo"]
    assert (
        phrase(milo, full=True)
        == "a flat orange fox with a green beanie, a blue striped hoodie and brown trousers"
    )
    luna = default_cast()["luna"]
    assert (
        phrase(luna, full=True)
        == "a shaded girl with black hair, a yellow crown and a teal dotted dress"
    )
    with pytest.raises(ValueError, match="needs an rng"):
        phrase(milo)
