from dataclasses import replace

import numpy as np
import pytest

from clif_exp.toonworld.cast import default_cast
from clif_exp.toonworld.scenes import KIND_SHARES, sample_scene
from clif_exp.toonworld.world import CAST_ONLY, FAMILIES, SLOTS, SPECIES


def test_base_scenes_never_show_cast_only_values():
    rng = np.random.default_rng(0)
    for _ in range(3000):
        scene = sample_scene(rng)
        for figure in scene.figures:
            for slot, forbidden in CAST_ONLY.items():
                assert getattr(figure.character, slot) not in forbidden
        for item in scene.items:
            assert item.kind not in CAST_ONLY["hat"] + CAST_ONLY["accessory"]
            assert item.colour != "teal"
            assert item.pattern != "starred"


def test_cast_only_features_are_drawn_when_allowed():
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(400):
        for figure in sample_scene(rng, allow_cast_only=True).figures:
            seen |= {
                (slot, value)
                for slot, value in figure.character.attributes().items()
                if value in CAST_ONLY.get(slot, ())
            }
    assert seen == {(slot, value) for slot, values in CAST_ONLY.items() for value in values}


def test_kinds_are_drawn_by_their_shares():
    rng = np.random.default_rng(2)
    kinds = [sample_scene(rng).kind for _ in range(3000)]
    for kind, share in KIND_SHARES.items():
        assert kinds.count(kind) / len(kinds) == pytest.approx(share, abs=0.03)


def test_every_species_belongs_to_one_family():
    assert sorted(SPECIES) == sorted(
        species for members in FAMILIES.values() for species in members
    )
    assert SLOTS["species"] == SPECIES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coat": "mauve"}, "coat='mauve' is unknown"),
        ({"hat": "none"}, "does not go with hat_colour"),
        ({"top": "dress"}, "only a dress has no bottom"),
    ],
)
def test_impossible_characters_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(default_cast()["milo"], **change)


def test_an_unknown_kind_of_scene_is_refused():
    with pytest.raises(ValueError, match="kind='crowd' is unknown"):
        sample_scene(np.random.default_rng(0), kind="crowd")
