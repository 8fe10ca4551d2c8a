"""Reads an export: what its model card says, and its files by diffusers' own loaders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from clif_exp.base_models.families import FAMILIES, Family, family_of_pipeline
from clif_exp.export.embeddings import load_textual_inversions


def read_card(model: Path) -> dict[str, Any]:
    """Return the front matter of an export's model card, and its whole text as `text`."""
    file = model / "README.md"
    if not file.exists() or not (model / "embeddings").is_dir():
        raise ValueError(
            f"{model} is not an export (README.md or embeddings/ is missing). Name the export"
            " folder of a run."
        )
    try:
        text = file.read_text(encoding="utf-8")
        head = yaml.safe_load(text.split("---")[1] if text.startswith("---") else "") or {}
        return {**head, "text": text}
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} is no model card; export the run again.") from error


def base_model(card: dict[str, Any], model: Path) -> tuple[str, str | None]:
    """Return the base model that a card names, and its revision.

    A card names no local path: packaged base models are found, others must be given by the user.
    """
    name = str(card.get("base_model", ""))
    if local := re.fullmatch(r"<your (\w+) folder>", name):
        if local[1] in FAMILIES and FAMILIES[local[1]].packaged:
            from clif_exp.base_models.spec import packaged_weights

            return str(packaged_weights() / "pipeline"), None
        raise ValueError(f"{model} was trained on a local {local[1]} folder. Name it with --base.")
    if not name:
        raise ValueError(f"{model / 'README.md'} names no base_model. Name it with --base.")
    revision = re.search(r" at revision `(\w+)`", card["text"])
    return name, revision[1] if revision else None


def family_of(card: dict[str, Any]) -> Family:
    """Return the family of the diffusers pipeline that a card's tags name.

    Raises:
        ValueError: they name none, or an unknown one.
    """
    named = [tag for tag in card.get("tags", []) if tag.endswith("Pipeline")]
    if not named:
        raise ValueError("model: README.md has no pipeline among its tags; export the run again.")
    return family_of_pipeline(named[0])


def components(model: Path, *, family: Family, dtype: Any) -> dict[str, Any]:
    """Load what an export holds whole, text encoders and U-Net, by the pipeline's names of them."""
    import diffusers
    import transformers

    classes: dict[str, Any] = {
        name: getattr(transformers, encoder.model_class)
        for name, encoder in family.encoders.items()
    }
    classes["unet"] = diffusers.UNet2DConditionModel
    return {
        name: loader.from_pretrained(model / name, use_safetensors=True, dtype=dtype)
        for name, loader in classes.items()
        if (model / name / "config.json").exists()
    }


def load_export(
    model: Path,
    *,
    base: str,
    revision: str | None,
    family: Family,
    device: str | None,
    resolution: int | None = None,
) -> Any:
    """Load an export into a stock pipeline.

    Args:
        model: an export folder.
        base: base model, a folder or hub id.
        revision: commit of a hub id.
        family: of the base model.
        device: torch device; None takes CUDA where there is one.
        resolution: side of the images in px; None: what the base model was made for.
    """
    import diffusers
    import torch

    from clif_exp.base_models.loading import (
        draw_at,
        pool_at_end,
        quiet_loading,
        text_encoders_of,
    )
    from clif_exp.base_models.unet_tuning.registry import load_unet_tuning

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float32 if device == "cpu" else torch.float16
    with quiet_loading():
        pipeline = (
            getattr(diffusers, family.pipeline)
            .from_pretrained(
                base,
                revision=revision,
                dtype=dtype,
                use_safetensors=True,
                **family.options,
                **components(model, family=family, dtype=dtype),
            )
            .to(device)
        )
        load_textual_inversions(pipeline, model, family=family)
        load_unet_tuning(pipeline, model)
    pool_at_end(text_encoders_of(pipeline))
    if resolution is not None:
        draw_at(pipeline, resolution)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
