"""What generated images are compared with."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clif_exp.concepts.concept import Concept, ConceptImage
from clif_exp.concepts.reading import read_concept_set
from clif_exp.evaluation.references import find_references, load_reference, references_of

RED, BLUE = (250, 0, 0), (0, 0, 250)


@pytest.fixture
def shared(tmp_path):
    """A photograph of two concepts, the left half red, the right half blue, and their masks."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48], pixels[:, 48:] = RED, BLUE
    Image.fromarray(pixels).save(tmp_path / "both.png")
    for name, columns in (("left", slice(0, 48)), ("right", slice(48, 96))):
        mask = np.zeros((64, 96), np.uint8)
        mask[8:56, columns] = 255
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    return tmp_path


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()}


def test_references_are_those_that_training_has_not_seen(tmp_path):
    rick = Concept("rick", "man", (ConceptImage(tmp_path / "rick" / "0.png"),))
    assert references_of(rick, dataset_root=tmp_path) == rick.images
    folder = tmp_path / "held_out" / "rick"
    folder.mkdir(parents=True)
    for name in ("1.png", "0.png", "notes.txt"):
        (folder / name).touch()
    files = [image.file.name for image in references_of(rick, dataset_root=tmp_path)]
    assert files == ["0.png", "1.png"]


@pytest.mark.parametrize(
    ("red", "blue"),
    [
        ("mask: left.png", "mask: right.png"),
        ("box: [0, 8, 48, 56]", "box: [48, 8, 96, 56]"),
    ],
)
def test_of_a_photograph_of_two_concepts_each_is_compared_with_its_own_part(shared, red, blue):
    (shared / "concepts.yaml").write_text(
        "concepts:\n"
        f"- {{name: red, class_word: cat, images: [{{file: both.png, {red}}}]}}\n"
        f"- {{name: blue, class_word: dog, images: [{{file: both.png, {blue}}}]}}\n"
    )
    found = find_references(read_concept_set(shared), shared)
    for name, own, other in (("red", RED, BLUE), ("blue", BLUE, RED)):
        shown = colours(load_reference(found[name][0]))
        assert own in shown and other not in shown, name


def test_a_photograph_of_one_concept_stays_whole(shared):
    (shared / "concepts.yaml").write_text(
        "concepts: [{name: red, class_word: cat, images: [{file: both.png, mask: left.png}]}]"
    )
    (reference,) = find_references(read_concept_set(shared), shared)["red"]
    assert colours(load_reference(reference)) == {RED, BLUE}
