"""Prior preservation: pictures that the base model itself draws of the concepts' class words (DreamBooth)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from clif_exp.concepts import ConceptSet


def draw_prior(folder: Path, pipeline, concepts: ConceptSet, *, count: int, seed: int) -> None:
    """Draw what the base model makes of each class word, once; finished pictures of a killed run are kept."""
    for word in sorted({concept.class_word for concept in concepts.concepts}):
        target = folder / word.replace(" ", "_")
        target.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            file = target / f"{index:04d}.png"
            if file.is_file():
                continue
            generator = torch.Generator().manual_seed(seed * 100_003 + index)
            image = pipeline(prompt=f"a photo of a {word}", generator=generator, num_inference_steps=25).images[0]
            partial = file.with_suffix(f".{os.getpid()}.partial")
            image.save(partial, format="PNG")
            partial.replace(file)
