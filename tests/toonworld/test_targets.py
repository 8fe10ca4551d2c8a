"""Targets of the recipes' auxiliary losses agree with captions and images."""

from __future__ import annotations

import numpy as np

from clif_exp.toonworld.drawing.render import render
from clif_exp.toonworld.recipes import binding, places
from clif_exp.toonworld.scenes import sample_scene
from clif_exp.toonworld.world import Character, Figure, Scene


def names(row) -> list[str]:
    return [classes[int(index)] for classes, index in zip(binding.CLASSES, row, strict=True)]


def test_words_are_bound_to_their_colour_pattern_figure_and_place():
    caption = (
        "a photo of a grey cat with a red cap and blue striped trousers next to a man with brown"
        " hair"
    )
    words = caption.split()
    parse = binding.running_parse([words, words[:6]])
    parsed = {word: names(parse[0, place]) for place, word in enumerate(words)}
    assert parsed["cat"] == ["grey", "none", "cat", "first"]
    assert parsed["cap"] == ["red", "none", "cat", "first"]
    assert parsed["trousers"] == ["blue", "striped", "cat", "first"]
    assert parsed["man"] == ["none", "none", "man", "second"]
    assert parsed["hair"] == ["brown", "none", "man", "second"]
    assert (parse[1, 6:] == binding.IGNORED).all()


def test_places_tell_what_was_drawn_there():
    who = Character(
        "fox",
        "flat",
        "orange",
        "cap",
        "green",
        "shirt",
        "blue",
        "striped",
        "trousers",
        "red",
        "none",
    )
    scene = Scene((Figure(who, 0.5, 0.95, 0.7),), "beach")
    labels_HW = render(scene, size=128).labels
    answers_QHW = places.targets([scene], labels_HW[None])[0]

    def told(question: str, part: str) -> set[str]:
        index = list(places.CLASSES).index(question)
        here = labels_HW == (0 if part == "none" else 1 + places.PARTS.index(part))
        assert here.any()
        values = np.unique(answers_QHW[index][here])
        return {
            "-" if value == places.IGNORED else places.CLASSES[question][value] for value in values
        }

    assert told("colour", "hat") == {"green"}
    assert told("kind", "hat") == {"cap"}
    assert told("colour", "bottom") == {"red"}
    assert told("pattern", "top") == {"striped"}
    assert told("species", "head") == {"fox"}
    assert told("colour", "head") == {"orange"}
    assert told("context", "none") == {"beach"}
    assert told("context", "hat") == {"-"}
    assert told("species", "none") == {"-"}
    assert told("part", "none") == {"none"}
    assert told("part", "legs") == {"legs"}


def test_every_scene_has_targets():
    for seed in range(40):
        scene = sample_scene(np.random.default_rng(seed))
        rendering = render(scene, size=64)
        part_HW = places.targets([scene], rendering.labels[None])[0, 0]
        expected = np.where(rendering.labels > 0, (rendering.labels.astype(int) - 1) % 16 + 1, 0)
        assert (part_HW == expected).all()
