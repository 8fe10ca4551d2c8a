"""What stage 2 sees of photographs in which the user has marked the concepts."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from clif_exp.concepts.reading import read_concept_set
from clif_exp.diffusion.images import load_mask, load_pixels, training_images
from support import concepts_yaml

BOXES = {"rick": (20, 60, 120, 260), "morty": (480, 60, 580, 260)}
COLOURS = {"rick": (255, 0, 0), "morty": (0, 0, 255)}


@pytest.fixture
def couple(tmp_path):
    """One photograph, 600 x 320 px on green, of two at its ends; and what curation finds in it."""
    photo = Image.new("RGB", (600, 320), (0, 255, 0))
    for name, box in BOXES.items():
        photo.paste(COLOURS[name], box)
    folder = tmp_path / "set"
    folder.mkdir()
    photo.save(folder / "photo.png")
    lines = []
    for name, box in BOXES.items():
        mask = Image.new("L", photo.size, 0)
        mask.paste(255, box)
        mask.save(tmp_path / f"{name}.png")
        lines.append(
            {"concept": name, "image": 0, "kind": "whole", "mask": f"{name}.png", "box": list(box)}
        )
    (tmp_path / "segments.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def described(folder, *entries: str):
    text = "concepts:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries)
    concepts_yaml(folder, text)
    return read_concept_set(folder)


def marked(name: str) -> str:
    box = list(BOXES[name])
    return f"name: {name}, class_word: man, images: [{{file: photo.png, box: {box}}}]"


def shares(image) -> dict[str, float]:
    """The share of an image that has each concept's colour."""
    pixels_3HW = load_pixels(image, resolution=64)
    return {
        name: float(
            ((pixels_3HW - torch.tensor(colour)[:, None, None] / 127.5 + 1).abs() < 0.1)
            .all(dim=0)
            .float()
            .mean()
        )
        for name, colour in COLOURS.items()
    }


def test_one_photograph_of_two_shows_each_without_the_other(couple, tmp_path):
    concepts = described(couple, marked("rick"), marked("morty"))
    images = training_images(concepts, manifest=None, segments=tmp_path, prior=[])
    for image, name in zip(images, BOXES, strict=True):
        found = shares(image)
        # 100 x 200 of 320 x 320 px
        assert found.pop(name) == pytest.approx(0.195, abs=0.03)
        assert set(found.values()) == {0.0}
        mask_1HW = load_mask(image, resolution=64, latent_size=(8, 8))
        assert float(mask_1HW.mean()) == pytest.approx(0.195, abs=0.03), "cropped as the image is"


def test_a_marked_concept_is_in_the_square_that_is_cut_out(couple, tmp_path):
    concepts = described(couple, marked("morty"))
    (image,) = training_images(concepts, manifest=None, segments=tmp_path, prior=[])
    assert shares(image)["morty"] > 0.15
    assert float((load_pixels(image, resolution=64)[1] > 0.9).float().mean()) > 0.7, "and its place"
    plain = described(couple, "name: morty, class_word: man, images: [photo.png]")
    (centred,) = training_images(plain, manifest=None, segments=tmp_path, prior=[])
    assert shares(centred) == {"rick": 0.0, "morty": 0.0}, "nothing said where to look"


def test_sets_keep_their_fingerprint_unless_a_photograph_is_shared(couple):
    alone = described(couple, marked("morty"))
    assert not alone.concepts[0].images[0].shared
    both = described(couple, marked("rick"), marked("morty"))
    assert all(concept.images[0].shared for concept in both.concepts)
