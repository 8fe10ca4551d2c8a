"""Pairs with leaked attributes, on which the U-Net learns to correct leaks."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from clif_exp.toonworld.recipes.corpus import Corpus
from clif_exp.toonworld.recipes.leaks import leaked, pairs_of
from clif_exp.toonworld.scenes import sample_scene


def test_leaks_come_from_the_other_figure_and_keep_the_layout():
    changed, recoloured = [], 0
    for seed in range(40):
        scene = sample_scene(np.random.default_rng(seed), kind="pair")
        other = leaked(scene, np.random.default_rng(seed))
        before, after = (
            [asdict(figure.character) for figure in one.figures] for one in (scene, other)
        )
        for own, neighbour, now in zip(before, before[::-1], after, strict=True):
            assert all(
                now[slot] in (own[slot], neighbour[slot]) for slot in now if slot != "hat_colour"
            )
            assert (now["hat_colour"] == "none") == (now["hat"] == "none")
            if now["hat_colour"] not in (own["hat_colour"], neighbour["hat_colour"]):
                assert now["hat"] == neighbour["hat"], "only a leaked hat takes another colour"
                recoloured += 1
        moved = {
            slot
            for own, now in zip(before, after, strict=True)
            for slot in now
            if now[slot] != own[slot]
        }
        changed.append(moved)
        places = [
            [(f.x, f.y, f.scale, f.pose, f.flip) for f in one.figures] for one in (scene, other)
        ]
        assert places[0] == places[1]
        assert (other.context, other.interaction) == (
            scene.context,
            scene.interaction,
        )
        assert other == leaked(scene, np.random.default_rng(seed)), (
            "the same seed gives the same leak"
        )
    assert {"hat", "top", "coat", "accessory", "species"} <= set().union(*changed)
    assert 3 <= recoloured <= 30
    assert np.mean([bool(moved) for moved in changed]) > 0.8  # look-alikes may have nothing to leak


def test_pairs_are_the_scenes_of_two_figures():
    kinds = ("single", "pair", "row", "pair_white")
    scenes = [
        sample_scene(np.random.default_rng(seed), kind=kind) for seed, kind in enumerate(kinds)
    ]
    assert pairs_of(Corpus(np.zeros(0), np.zeros(0), scenes)).tolist() == [1, 3]
