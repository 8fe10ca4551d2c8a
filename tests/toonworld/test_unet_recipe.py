"""Sampling weights of the U-Net's scenes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clif_exp.toonworld.characters import sample_character
from clif_exp.toonworld.placing import place_pair
from clif_exp.toonworld.recipes.unet import ONE_HAT, OVERLAPS, PAIR_WEIGHT, _weight
from clif_exp.toonworld.world import Scene


def _pair(interaction: str, *hats: str) -> Scene:
    rng = np.random.default_rng(0)
    people = [
        replace(sample_character(rng), hat=hat, hat_colour="none" if hat == "none" else "red")
        for hat in hats
    ]
    return Scene(place_pair(rng, *people, interaction), "beach", interaction, "pair", 0)


def test_pairs_with_one_hat_are_sampled_more_often():
    assert (
        _weight(_pair("next to", "crown", "none"))
        == _weight(_pair("next to", "none", "crown"))
        == PAIR_WEIGHT * ONE_HAT
    )
    assert (
        _weight(_pair("next to", "crown", "cap"))
        == _weight(_pair("next to", "none", "none"))
        == PAIR_WEIGHT
    )
    assert _weight(replace(_pair("next to", "crown", "none"), figures=())) == 1.0


def test_who_stands_behind_is_sampled_more_often_unless_hidden():
    scene = _pair("behind", "crown", "none")
    back, front = scene.figures
    seen = replace(scene, figures=(replace(back, y=front.y - 0.08), front))
    hidden = replace(scene, figures=(replace(back, y=front.y - 0.16), front))
    assert _weight(seen) == PAIR_WEIGHT * ONE_HAT * OVERLAPS["behind"]
    assert _weight(hidden) == PAIR_WEIGHT * ONE_HAT
