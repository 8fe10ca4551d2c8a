"""Names that stand for a whole look."""

from __future__ import annotations

import numpy as np

from clif_exp.toonworld.cast import NAMES as CAST_NAMES
from clif_exp.toonworld.cast import cast, default_cast
from clif_exp.toonworld.grammar import VOCABULARY, caption, full_caption
from clif_exp.toonworld.names import NAMES, name_of, named_characters
from clif_exp.toonworld.recipes.binding import FIGURES, SPECIES, running_parse
from clif_exp.toonworld.scenes import sample_scene
from clif_exp.toonworld.world import BASE_SLOTS


def test_a_thousand_names_are_words_of_their_own():
    assert len(NAMES) == len(set(NAMES)) == 1000
    assert set(NAMES) <= set(VOCABULARY)
    spoken = {word for values in BASE_SLOTS.values() for value in values for word in value.split()}
    assert not set(NAMES) & (spoken | set(CAST_NAMES))


def test_their_looks_differ_and_show_everything_that_base_models_know():
    looks = list(named_characters().values())
    for number, look in enumerate(looks):
        mine = look.attributes()
        for other in looks[:number]:
            theirs = other.attributes()
            assert sum(mine[slot] != theirs[slot] for slot in mine) >= 4
    for slot, values in BASE_SLOTS.items():
        assert {getattr(look, slot) for look in looks} == set(values), slot


def test_no_cast_has_any_of_them():
    casts = [default_cast(), *map(cast, (*range(100, 113), *range(200, 205)))]
    assert not any(name_of(character) for one in casts for character in one.values())


def test_a_scene_is_the_same_as_ever_where_nobody_has_a_name():
    plain = [sample_scene(np.random.default_rng([1, i])) for i in range(50)]
    assert plain == [sample_scene(np.random.default_rng([1, i]), named=0.0) for i in range(50)]


def test_who_has_a_name_is_called_by_it_alone_more_often_than_not():
    rng = np.random.default_rng(0)
    called = []
    for _ in range(600):
        scene = sample_scene(rng, kind="single", named=1.0)
        name = name_of(scene.figures[0].character)
        words = caption(scene, rng).split()
        if name in words:
            assert scene.figures[0].character.species not in words
        assert name not in full_caption(scene).split()
        called.append(name in words)
    assert 0.5 < np.mean(called) < 0.7


def test_a_name_is_parsed_as_a_figure_of_its_species():
    name, look = next(iter(named_characters().items()))
    words = ["a", "red", "cat", "next", "to", name]
    colour, pattern, species, figure = running_parse([words])[0, -1].tolist()
    assert (colour, pattern) == (0, 0)
    assert (SPECIES[species], FIGURES[figure]) == (look.species, "second")
