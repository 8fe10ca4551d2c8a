import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import yaml
from PIL import Image

from clif_exp.toonworld.cast import (
    NAMES,
    cast,
    default_cast,
    held_out_scenes,
    reference_scenes,
    write_cast,
)
from clif_exp.toonworld.world import CAST_ONLY, SLOTS


def differences(first, second):
    return sum(getattr(first, slot) != getattr(second, slot) for slot in SLOTS)


@pytest.mark.parametrize("members", [default_cast(), *(cast(seed) for seed in range(6))])
def test_casts_have_their_styles_and_groups_of_look_alikes(members):
    assert tuple(members) == NAMES
    assert len(members) == 18
    assert Counter(who.style for who in members.values()) == {"flat": 9, "textured": 5, "shaded": 4}
    groups = Counter((who.species, who.style) for who in members.values())
    assert sum(count >= 3 for count in groups.values()) >= 4
    for group, count in groups.items():
        if count < 3:
            continue
        alike = [who for who in members.values() if (who.species, who.style) == group]
        for place, first in enumerate(alike):
            assert all(2 <= differences(first, other) <= 9 for other in alike[:place])
    rare = [
        name
        for name, who in members.items()
        if any(getattr(who, slot) in values for slot, values in CAST_ONLY.items())
    ]
    assert len(rare) >= 3
    first_four = list(members.values())[:4]
    assert (first_four[0].species, first_four[0].style) == (
        first_four[1].species,
        first_four[1].style,
    )
    assert len({who.species for who in first_four}) == 3


def test_fresh_casts_depend_on_their_seed_only():
    assert cast(7) == cast(7)
    assert cast(7) != cast(8)
    assert cast(7) != default_cast()


def test_reference_images_vary_and_differ_from_the_held_out_ones():
    for name, character in default_cast().items():
        references, held_out = reference_scenes(name, character), held_out_scenes(name, character)
        assert 4 <= len(references) <= 6
        assert len(held_out) == 8
        assert references == reference_scenes(name, character)
        assert len({scene.context for scene in references}) == len(references)
        assert "white" in {scene.context for scene in references}
        assert not {scene.seed for scene in references} & {scene.seed for scene in held_out}
        assert {figure.character for scene in references for figure in scene.figures} == {character}
        assert len({scene.figures[0].pose for scene in references}) == 2


def test_a_written_cast_is_complete_and_the_same_every_time(tmp_path):
    for folder in ("first", "second"):
        write_cast(tmp_path / folder, size=2)
    files = sorted(
        path.relative_to(tmp_path / "first")
        for path in (tmp_path / "first").rglob("*")
        if path.is_file()
    )
    assert [(tmp_path / "first" / file).read_bytes() for file in files] == [
        (tmp_path / "second" / file).read_bytes() for file in files
    ]
    written = yaml.safe_load((tmp_path / "first" / "concepts.yaml").read_text())
    truth = json.loads((tmp_path / "first" / "truth.json").read_text())
    assert written["name"] == "toonworld"
    assert [concept["name"] for concept in written["concepts"]] == ["milo", "otto"]
    for concept in written["concepts"]:
        assert concept["class_word"] == truth[concept["name"]]["species"]
        assert list(truth[concept["name"]]) == list(SLOTS)
        assert concept["parts"]
        assert all(" " not in part for part in concept["parts"])
        for image in concept["images"]:
            assert np.asarray(Image.open(tmp_path / "first" / image)).shape == (128, 128, 3)
        assert len(list((tmp_path / "first" / "held_out" / concept["name"]).glob("*.png"))) == 8


def test_an_impossible_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="size=19 is out of range"):
        write_cast(tmp_path, size=19)


def test_drawing_needs_no_heavy_library():
    heavy = ("torch", "diffusers", "transformers", "scipy")
    code = f"import sys, clif_exp.toonworld.cast; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
