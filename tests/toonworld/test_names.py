"""Names that stand for a whole look."""

from __future__ import annotations

import numpy as np
import torch

from clif_exp.toonworld.architectures import build_tokenizer
from clif_exp.toonworld.cast import NAMES as CAST_NAMES
from clif_exp.toonworld.cast import cast, default_cast
from clif_exp.toonworld.grammar import VOCABULARY, caption, full_caption
from clif_exp.toonworld.names import NAMES, name_of, named_characters
from clif_exp.toonworld.recipes import clip
from clif_exp.toonworld.recipes.binding import (
    FIGURES,
    SPECIES,
    running_parse,
    with_colours_exchanged,
)
from clif_exp.toonworld.recipes.corpus import render_corpus
from clif_exp.toonworld.recipes.widen import with_new_words
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


def test_exchanged_colours_say_something_else_with_the_same_words():
    rng = np.random.default_rng(0)
    caption = "a photo of a red cat with a blue hat and a blue scarf"
    found = {with_colours_exchanged(caption, rng) for _ in range(20)}
    assert found == {
        "a photo of a blue cat with a red hat and a blue scarf",
        "a photo of a blue cat with a blue hat and a red scarf",
    }
    assert with_colours_exchanged("a red cat with a red hat", rng) is None
    assert with_colours_exchanged("a photo of abel", rng) is None


def test_clips_batches_ask_for_the_look_at_a_name_and_of_a_figure_alone(tmp_path):
    corpus = render_corpus(tmp_path, size=48, seed=1, named=1.0, workers=1)
    tokenizer = build_tokenizer()
    batch = clip.recipe(corpus, tokenizer=tokenizer, steps=1, batch_size=48).batch(0)
    values = list(BASE_SLOTS.values())
    assert len(batch["named_K2"]) == len(batch["looks_KS"]) > 5
    for (row, place), look in zip(batch["named_K2"].tolist(), batch["looks_KS"], strict=True):
        word = tokenizer.convert_ids_to_tokens(int(batch["input_ids"][row, 1 + place]))
        character = named_characters()[word.removesuffix("</w>")]
        assert [values[s][i] for s, i in enumerate(look)] == list(character.attributes().values())
    assert len(batch["alone_M"]) == len(batch["looks_MS"]) > 5
    rows = np.sort(
        np.random.default_rng([3, 0]).choice(len(corpus), 48, replace=False)
    )  # as the recipe draws them: all of them, in order
    for place, look in zip(batch["alone_M"].tolist(), batch["looks_MS"], strict=True):
        (figure,) = corpus.scenes[rows[place]].figures
        assert values[0][look[0]] == figure.character.species
    right, wrong = batch["input_ids"].split(48)
    assert (right != wrong).any(1).tolist() == batch["exchanged_N"].tolist()
    assert 0 < batch["exchanged_N"].sum() < 48


def test_a_text_encoder_that_learns_words_keeps_those_it_had():
    old = {"a</w>": 0, "cat</w>": 1, "dog</w>": 2, "wolf</w>": 3}
    new = {"wolf</w>": 0, "abel</w>": 1, "a</w>": 2, "dog</w>": 3, "cat</w>": 4}
    table = torch.arange(12.0).view(4, 3)
    grown = with_new_words(table, old=old, new=new)
    for word, row in old.items():
        assert torch.equal(grown[new[word]], table[row])
    # Words count, single letters do not: around their mean, within a few times their spread.
    words = table[1:]
    assert ((grown[1] - words.mean(0)).abs() < 5 * words.std(0)).all()
