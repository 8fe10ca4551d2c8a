"""Measures of the model card."""

from __future__ import annotations

import pytest

from clif_exp.toonworld import measures_unet, relations
from clif_exp.toonworld.grammar import VOCABULARY
from clif_exp.toonworld.oracle import FigureReading
from clif_exp.toonworld.world import CAST_ONLY, INTERACTIONS


def figure(species: str, hat: str = "none", hat_colour: str = "none") -> FigureReading:
    return FigureReading(
        (0, 0, 60, 120), 0.9, {"species": species, "hat": hat, "hat_colour": hat_colour}, {}
    )


@pytest.mark.parametrize(
    ("figures", "right"),
    [
        ([figure("cat", "crown", "red"), figure("robot")], True),
        ([figure("robot"), figure("cat", "crown", "red")], True),
        ([figure("cat"), figure("robot", "crown", "red")], False),
        ([figure("cat", "crown", "red"), figure("robot", "crown", "red")], False),
        ([figure("cat", "crown", "blue"), figure("robot")], False),
        ([figure("cat", "crown", "red"), figure("robot"), figure("robot")], False),
        ([figure("cat", "crown", "red")], False),
    ],
)
def test_the_stock_prompt_needs_one_crowned_cat_and_one_robot_without_a_crown(figures, right):
    assert measures_unet._is_stock(figures) is right
    assert set(measures_unet.STOCK_PROMPT.split()) <= set(VOCABULARY)


@pytest.mark.parametrize("relation", INTERACTIONS)
def test_relation_prompts_name_both_species(relation):
    prompts = relations.prompts_of(relation, 60, seed=5)
    assert all(
        first in text.split() and second in text.split() and first != second
        for text, first, second in prompts
    )


def test_prompts_for_cast_only_features_take_the_slots_in_turn():
    named = [measures_unet._with_cast_only(index) for index in range(2 * len(CAST_ONLY))]
    assert [slot for _, slot in named] == [*CAST_ONLY, *CAST_ONLY]
    assert all(getattr(who, slot) in CAST_ONLY[slot] for who, slot in named)


def test_an_image_without_figures_shows_no_attributes():
    who, _ = measures_unet._with_cast_only(0)
    assert measures_unet._shown([], who) == 0
    assert measures_unet._shown([FigureReading((0, 0, 9, 9), 0.9, who.attributes(), {})], who) == 1
