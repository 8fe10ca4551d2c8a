"""The images that generated ones are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from clif_exp.concepts.concept import Concept, ConceptImage, ConceptSet
from clif_exp.concepts.images import load_mask, load_rgb, on_white


def find_references(
    concepts: ConceptSet, dataset_root: Path
) -> dict[str, tuple[ConceptImage, ...]]:
    """Return concept -> its references."""
    return {
        concept.name: references_of(concept, dataset_root=dataset_root)
        for concept in concepts.concepts
    }


def references_of(concept: Concept, *, dataset_root: Path) -> tuple[ConceptImage, ...]:
    """Return the images that training has not seen, if there are any, else its own."""
    unseen = held_out(concept.name, dataset_root=dataset_root)
    return tuple(ConceptImage(path) for path in unseen) or concept.images


def held_out(name: str, *, dataset_root: Path) -> list[Path]:
    """Return the images in `held_out/<concept>/`, none of which training reads."""
    folder = dataset_root / "held_out" / name
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp")
    )


def load_reference(reference: ConceptImage) -> Image.Image:
    """Open a reference, upright and opaque.

    Where several concepts are marked in one photograph, each is cut out by its mask, or by its box
    with whatever else is in that; a point does not say how far it reaches, and leaves the
    photograph whole.
    """
    image = load_rgb(reference.file)
    if not reference.shared:
        return image
    if reference.mask is not None:
        return on_white(np.asarray(image), load_mask(reference.mask, size=image.size))
    return image if reference.box is None else image.crop(reference.box)
