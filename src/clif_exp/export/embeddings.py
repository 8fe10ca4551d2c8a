"""Textual-inversion files, one per concept, as diffusers, ComfyUI and A1111 load them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.families import Family

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "embeddings"
_FROM_FILE = 'pipe.load_textual_inversion(f"embeddings/{concept}.safetensors")'
_READ = 'rows = safetensors.torch.load_file(f"embeddings/{concept}.safetensors")'
_FROM_KEY = (
    'pipe.load_textual_inversion({{f"<{{concept}}>": rows["{key}"]}}, text_encoder=pipe.{encoder},'
    " tokenizer=pipe.{tokenizer})"
)


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
    """Load an export's concepts into a stock pipeline, by diffusers' own loader."""
    from safetensors.torch import load_file

    for name in concepts_in(export):
        file = export / FOLDER / f"{name}.safetensors"
        for encoder, record in family.encoders.items():
            if record.embedding_key is None:
                pipeline.load_textual_inversion(str(file))
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
