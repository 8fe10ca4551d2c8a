"""The artifacts that merging reads: one folder per concept, as stage 2 publishes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.base_models import text_tuning
from clif_exp.base_models.layerwise import LAYERWISE_FILE
from clif_exp.base_models.tokens import (
    EMBEDDINGS_FILE,
    load_concept_embeddings,
    save_concept_embeddings,
)

if TYPE_CHECKING:
    from torch import Tensor

Parts = Mapping[str, Path]
"""Concept -> folder of the stage that customised it alone."""


def merge_embeddings(out: Path, parts: Parts) -> None:
    """Write the concept embeddings of all parts into one folder; each is as its part has it.

    They are the same in all layers of the U-Net, or layer-wise, but of one kind in all parts.

    Args:
        out: existing folder.
        parts: concept -> folder; other concepts in a folder are left out.

    Raises:
        ValueError: a folder lacks its concept, or holds it for other text encoders than the rest.
    """
    merged: dict[str, dict[str, Tensor]] = {}
    encoders: set[str] = set()
    layerwise = [(folder / LAYERWISE_FILE).is_file() for folder in parts.values()]
    file = LAYERWISE_FILE if all(layerwise) else EMBEDDINGS_FILE
    for concept, folder in parts.items():
        found = load_concept_embeddings(folder / file)
        own = {encoder: all_[concept] for encoder, all_ in found.items() if concept in all_}
        if not own or (encoders and set(own) != encoders):
            expected = f", expected {sorted(encoders)}" if encoders else ""
            raise ValueError(
                f"{folder / file}: holds '{concept}' for the text encoders"
                f" {sorted(own)}{expected}. Merge what was trained for one base model, each"
                " concept from its own training."
            )
        encoders = set(own)
        for encoder, vectors in own.items():
            merged.setdefault(encoder, {})[concept] = vectors
    save_concept_embeddings(out / file, merged)


def refuse_text_tuning(parts: Parts, *, method: str) -> None:
    """Refuse parts that changed the text encoders, where a method cannot merge that.

    Args:
        parts: concept -> folder.
        method: for the message.

    Raises:
        ValueError: names the first file that changes one.
    """
    for folder in parts.values():
        for name in (text_tuning.LORA_FILE, text_tuning.WEIGHTS_FILE):
            if (folder / name).is_file():
                raise ValueError(
                    f"{folder / name}: {method} cannot merge text encoders that were trained"
                    " apart. Train the concepts with contrastive.text_encoder=frozen."
                )
