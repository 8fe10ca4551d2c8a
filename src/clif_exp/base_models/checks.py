"""Checks of base models before anything is loaded: complete, in safetensors, fitting together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clif_exp.base_models.families import Family

VARIANTS = (".fp16.safetensors", ".non_ema.safetensors")  # which no loader here asks for


def check_pipeline_folder(folder: Path, *, family: str, record: Family) -> None:
    """Check that a folder is a complete pipeline, in safetensors, without code of its own.

    Args:
        folder: of a diffusers pipeline.
        family: the family's name, for messages.
        record: the family.

    Raises:
        ValueError: what is missing or of another family, and how to fix it.
    """
    index_file = folder / "model_index.json"
    if not index_file.is_file():
        raise ValueError(
            f"model.path: {folder} holds no model_index.json. Give the folder of a diffusers"
            " pipeline."
        )
    index = _read_json(index_file, what="model.path")
    if index.get("_class_name") != record.pipeline:
        raise ValueError(
            f"model.path: {folder} is a {index.get('_class_name')}; model={family} needs a"
            f" {record.pipeline}. Choose the model= that fits it."
        )
    for name, entry in index.items():
        if name.startswith("_") or not isinstance(entry, list) or entry[0] is None:
            continue
        if name in ("safety_checker", "feature_extractor", "image_encoder"):
            continue  # Not loaded.
        if entry[0] not in ("diffusers", "transformers"):
            raise ValueError(
                f"model.path: {name} of {folder} brings its own code ({entry[0]}), which is never"
                " run."
            )
        if not (folder / name).is_dir():
            raise ValueError(
                f"model.path: {folder} lacks the folder '{name}'. Download the whole pipeline."
            )
        for file in sorted((folder / name).glob("*.json")):
            _read_json(file, what=f"model.path: {name}")
        if name in ("unet", "vae", *record.encoders):
            check_model_folder(folder / name, what=f"model.path: {name}")


def check_model_folder(folder: Path, *, what: str) -> None:
    """Check that a folder holds one model's config and safetensors.

    Raises:
        ValueError: opens with `what`, the config field.
    """
    if not folder.is_dir():
        raise ValueError(f"{what}: {folder} is not a folder. Give an existing folder or a hub id.")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{what}: {folder} holds no config.json.")
    for file in sorted(folder.glob("*.json")):
        _read_json(file, what=what)
    if not any(not file.name.endswith(VARIANTS) for file in folder.glob("*.safetensors")):
        if variants := sorted(file.name for file in folder.glob("*.safetensors")):
            raise ValueError(
                f"{what}: {folder} holds a variant only ({variants[0]}), which is not read."
                " Download the model's plain weights, too, or rename the file."
            )
        found = sorted(f.name for f in folder.iterdir() if f.suffix in (".bin", ".ckpt", ".pt"))
        raise ValueError(
            f"{what}: {folder} holds no .safetensors file{f' (found {found[0]})' if found else ''}."
            " Pickled weights are not read; convert them with"
            " save_pretrained(safe_serialization=True)."
        )
    check_weights(folder, what=what)


def check_weights(path: Path, *, what: str) -> None:
    """Check that safetensors are whole, by their headers and lengths: milliseconds.

    Args:
        path: a file, or a folder with files and perhaps an index of shards.
        what: the config field.

    Raises:
        ValueError: opens with `what`; names the first file that is broken or missing.
    """
    from safetensors import SafetensorError, safe_open

    remedy = "Download or copy it again."
    for index in sorted(path.glob("*.safetensors.index.json")):
        for shard in sorted(set(_read_json(index, what=what).get("weight_map", {}).values())):
            if not (path / shard).is_file():
                raise ValueError(
                    f"{what}: {path} lacks {shard}, which {index.name} names. {remedy}"
                )
    single = [path] if path.suffix == ".safetensors" and path.is_file() else []
    for file in single or sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            found = f"{file.stat().st_size} bytes: {error}" if file.exists() else "a broken link"
            raise ValueError(f"{what}: {file} is broken ({found}). {remedy}") from error


def _read_json(file: Path, *, what: str) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"{what}: {file} is no JSON object ({error}). Download or copy it again."
        ) from error


def check_same_text_tower(clip: Any, pipeline_encoder: Any, *, what: str) -> None:
    """Check that a CLIP's text tower equals a pipeline's, up to the rounding of half precision.

    A pipeline may hold fewer layers (SD 2.1 drops the last one): those that both have must be
    equal.

    Raises:
        ValueError: names the first parameter that differs.
    """
    import torch

    theirs = {k.removeprefix("text_model."): v for k, v in clip.text_model.state_dict().items()}
    ours = {k.removeprefix("text_model."): v for k, v in pipeline_encoder.state_dict().items()}
    ours.pop("text_projection.weight", None)
    for name, value in ours.items():
        other = theirs.get(name)
        if other is None or other.shape != value.shape:
            found = "nothing" if other is None else f"shape {tuple(other.shape)}"
            raise ValueError(
                f"{what}: its text tower is not the pipeline's: '{name}' is {found}, the pipeline's"
                f" has shape {tuple(value.shape)}. Name the CLIP checkpoint that this pipeline's"
                " text encoder came from."
            )
        # 2^-7: the rounding of bfloat16, the coarsest format that weights are stored in.
        if not torch.allclose(value.float(), other.float(), rtol=2**-7, atol=1e-6):
            difference = (value.float() - other.float()).abs().max().item()
            raise ValueError(
                f"{what}: '{name}' differs from the pipeline's text encoder by up to"
                f" {difference:.2g}. Embeddings trained against another tower do not fit; name the"
                " CLIP checkpoint that the pipeline was built on."
            )


def check_same_tokenizer(checkpoint: str, tokenizer: Any, *, what: str) -> None:
    """Check that a CLIP's vocabulary is the pipeline's.

    Raises:
        ValueError: they differ.
    """
    from transformers import CLIPTokenizer

    try:
        other = CLIPTokenizer.from_pretrained(checkpoint)
    except OSError:
        return  # A CLIP folder without a tokenizer: the pipeline's is used.
    if other.get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"{what}: its tokenizer's vocabulary is not the pipeline's. Name the CLIP it was"
            " built on."
        )
