"""Textual-inversion files, one per concept, as diffusers, ComfyUI and A1111 load them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.families import Family
from clif_exp.base_models.layerwise import (
    LAYERWISE_FILE,
    insert_layerwise,
    load_layerwise_embeddings,
)
from clif_exp.base_models.loading import text_encoders_of
from clif_exp.base_models.tokens import EMBEDDINGS_FILE, load_concept_embeddings
from clif_exp.base_models.unet_tuning.exported import Exported

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "embeddings"
_FROM_FILE = 'pipe.load_textual_inversion(f"embeddings/{concept}.safetensors")'
_READ = 'rows = safetensors.torch.load_file(f"embeddings/{concept}.safetensors")'
_FROM_KEY = (
    'pipe.load_textual_inversion({{f"<{{concept}}>": rows["{key}"]}}, text_encoder=pipe.{encoder},'
    " tokenizer=pipe.{tokenizer})"
)


def stock_embeddings(diffusion: Path) -> dict[str, dict[str, Tensor]]:
    """Return text encoder -> concept -> float32 [T, D], as stock tools read them.

    Of embeddings per layer it is their mean, the nearest that these tools have.

    Args:
        diffusion: what stage 2 published.

    Raises:
        ValueError: it holds none.
    """
    if not (diffusion / LAYERWISE_FILE).is_file():
        return load_concept_embeddings(diffusion / EMBEDDINGS_FILE)
    return {
        encoder: {concept: rows_LTD.mean(dim=0) for concept, rows_LTD in own.items()}
        for encoder, own in load_layerwise_embeddings(diffusion).items()
    }


def export_layerwise(diffusion: Path, out: Path) -> list[Exported]:
    """Copy embeddings per layer, if stage 2 trained such, and say that no stock tool reads them."""
    if not (diffusion / LAYERWISE_FILE).is_file():
        return []
    shutil.copyfile(diffusion / LAYERWISE_FILE, out / LAYERWISE_FILE)
    return [
        Exported(
            files={LAYERWISE_FILE: "`python -m clif_exp.generate`"},
            unread="embeddings of each cross-attention layer",
            notes=(
                f"The files in `{FOLDER}/` hold the mean over the layers: what stock tools draw"
                " from it is less like the concepts than the run's images.",
            ),
        )
    ]


def textual_inversion(
    name: str, embeddings: Mapping[str, Tensor], *, family: Family
) -> dict[str, Tensor]:
    """Return the tensors of one concept's file.

    A1111 and ComfyUI read them by the file's name.

    Args:
        name: of the concept.
        embeddings: text encoder -> float [T, D].
        family: says under which key the tools look for an encoder's embedding.
    """
    keys = {encoder: record.embedding_key for encoder, record in family.encoders.items()}
    return {
        keys[encoder] or f"<{name}>": value.contiguous() for encoder, value in embeddings.items()
    }


def read_embeddings(export: Path, *, family: Family) -> dict[str, dict[str, Tensor]]:
    """Read what `textual_inversion` has written.

    Args:
        export: its folder.
        family: of its base model.

    Returns:
        Text encoder -> concept -> float [T, D].
    """
    from safetensors.torch import load_file

    files = {
        name: load_file(export / FOLDER / f"{name}.safetensors") for name in concepts_in(export)
    }
    return {
        encoder: {
            # With one encoder, the key is the placeholder, whatever the file is called now.
            name: file[record.embedding_key] if record.embedding_key else next(iter(file.values()))
            for name, file in files.items()
        }
        for encoder, record in family.encoders.items()
    }


def concepts_in(export: Path) -> list[str]:
    """Return the names of the concepts that an export holds, sorted."""
    return sorted(file.stem for file in (export / FOLDER).glob("*.safetensors"))


def count_tokens(export: Path) -> dict[str, int]:
    """Return how many tokens each concept of an export has."""
    from safetensors import safe_open

    counts = {}
    for name in concepts_in(export):
        with safe_open(export / FOLDER / f"{name}.safetensors", framework="numpy") as file:
            counts[name] = int(file.get_slice(next(iter(file.keys()))).get_shape()[0])
    return counts


def load_textual_inversions(pipeline: Any, export: Path, *, family: Family) -> None:
    """Load an export's concepts into a stock pipeline, by diffusers' own loader.

    Embeddings per layer, for which it has none, are put in by this package.
    """
    from safetensors.torch import load_file

    if (export / LAYERWISE_FILE).is_file():
        insert_layerwise(pipeline, text_encoders_of(pipeline), load_layerwise_embeddings(export))
        return
    for name in concepts_in(export):
        file = export / FOLDER / f"{name}.safetensors"
        for encoder, record in family.encoders.items():
            if record.embedding_key is None:
                pipeline.load_textual_inversion(str(file), token=f"<{name}>")  # renamed or not
                continue
            pipeline.load_textual_inversion(
                {f"<{name}>": load_file(file)[record.embedding_key]},
                text_encoder=getattr(pipeline, encoder),
                tokenizer=getattr(pipeline, record.tokenizer),
            )


def loading_code(family: Family) -> list[str]:
    """Return the lines of Python that load the file of `concept` into a stock pipeline `pipe`."""
    keyed = {
        encoder: record
        for encoder, record in family.encoders.items()
        if record.embedding_key is not None
    }
    if not keyed:
        return [_FROM_FILE]
    return [_READ] + [
        _FROM_KEY.format(key=record.embedding_key, encoder=encoder, tokenizer=record.tokenizer)
        for encoder, record in keyed.items()
    ]
