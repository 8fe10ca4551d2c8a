"""Untrained base models, a drawn concept set with true masks, and cut-outs to compose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clif_exp.artifacts.files import write_jsonl
from clif_exp.base_models.spec import BaseModels, resolve
from clif_exp.concepts.concept import Concept, ConceptImage, ConceptSet
from clif_exp.concepts.reading import read_concept_set, write_concepts_yaml
from clif_exp.curation.masks import cut_out, write_mask, write_png


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> BaseModels:
    """ToonWorld's base models, untrained."""
    from clif_exp.toonworld.architectures import write_random_weights

    root = tmp_path_factory.mktemp("weights")
    write_random_weights(root)
    return resolve(BaseModels(family="toonworld", path=str(root), resolution=128))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> ConceptSet:
    """Three of ToonWorld's cast, two images each, the first on white, with the true masks."""
    from clif_exp.toonworld.cast import default_cast, part_nouns, reference_scenes
    from clif_exp.toonworld.drawing.render import render

    root = tmp_path_factory.mktemp("drawn")
    concepts = []
    for name in ("milo", "luna", "bolt"):
        character = default_cast()[name]
        images = []
        for number, scene in enumerate(reference_scenes(name, character)[:2]):
            rendering = render(scene, size=128)
            file, mask = root / f"{name}_{number}.png", root / f"{name}_{number}_mask.png"
            Image.fromarray(rendering.image).save(file)
            write_mask(mask, rendering.mask(0))
            images.append(ConceptImage(file, mask=mask))
        concepts.append(
            Concept(name, character.species, tuple(images), tuple(part_nouns(character)))
        )
    write_concepts_yaml(root, concepts=concepts, name="drawn")
    return read_concept_set(root)


@pytest.fixture(scope="session")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Segments and contexts artifacts of plain shapes.

    Four concepts with a hat each, three with shoes, three general concepts, two general parts.
    """
    root = tmp_path_factory.mktemp("cutouts")
    segments, contexts = root / "segments", root / "contexts"
    for folder in (segments / "cutouts", contexts / "cutouts"):
        folder.mkdir(parents=True)
    lines = []
    for index, name in enumerate(("ann", "ben", "cleo", "dan")):
        for number in range(2):
            lines.append(
                _shape(
                    segments,
                    f"{name}_{number}",
                    index,
                    (20 + 5 * number, 40),
                    concept=name,
                    image=number,
                    kind="whole",
                    part=None,
                )
            )
            lines.append(
                _shape(
                    segments,
                    f"{name}_{number}_hat",
                    index,
                    (24, 12),
                    concept=name,
                    image=number,
                    kind="part",
                    part="hat",
                )
            )
        if name != "dan":
            lines.append(
                _shape(
                    segments,
                    f"{name}_shoes",
                    index,
                    (16, 8),
                    concept=name,
                    image=0,
                    kind="part",
                    part="shoes",
                )
            )
    write_jsonl(segments / "segments.jsonl", lines)
    lines = [
        _shape(contexts, name, 5 + i, (22, 38), name=name, kind="whole", kept=True)
        for i, name in enumerate(("chef", "old man", "wolf"))
    ]
    lines += [
        _shape(contexts, name, 9 + i, (26, 20), name=name, kind="part", kept=True)
        for i, name in enumerate(("red cap", "blue trousers"))
    ]
    lines.append(
        {"name": "dog", "kind": "whole", "kept": False, "cutout": None, "cutout_size": None}
    )
    write_jsonl(contexts / "contexts.jsonl", lines)
    return segments, contexts


@pytest.fixture(scope="session")
def cast_cutouts(drawn: ConceptSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segments artifact of `drawn`, cut out by the true masks."""
    root = tmp_path_factory.mktemp("cast_cutouts")
    (root / "cutouts").mkdir()
    lines = []
    for concept in drawn.concepts:
        for number, image in enumerate(concept.images):
            assert image.mask is not None
            pixels = np.asarray(Image.open(image.file).convert("RGB"))
            cutout, _ = cut_out(pixels, np.asarray(Image.open(image.mask)) > 127)
            file = f"cutouts/{concept.name}_{number}.png"
            write_png(root / file, cutout)
            lines.append(
                {
                    "concept": concept.name,
                    "image": number,
                    "kind": "whole",
                    "part": None,
                    "cutout": file,
                    "cutout_size": list(cutout.size),
                }
            )
    write_jsonl(root / "segments.jsonl", lines)
    return root


def _shape(
    root: Path, stem: str, colour: int, size: tuple[int, int], **fields: Any
) -> dict[str, Any]:
    """An ellipse of one colour, cut out as images are."""
    width, height = size
    y, x = np.mgrid[: height + 8, : width + 8]
    inside = ((x - 3.5 - width / 2) / (width / 2)) ** 2 + (
        (y - 3.5 - height / 2) / (height / 2)
    ) ** 2 <= 1
    image = np.where(
        inside[..., None],
        np.array([(37 * colour) % 200, (91 * colour) % 200, (150 * colour) % 200]),
        255,
    ).astype(np.uint8)
    cutout, _ = cut_out(image, inside)
    write_png(root / "cutouts" / f"{stem}.png", cutout)
    return {
        "cutout": f"cutouts/{stem}.png",
        "cutout_size": list(cutout.size),
        "mask": None,
        **fields,
    }
