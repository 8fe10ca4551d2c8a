"""The customised model: a stock pipeline with the trained concept embeddings and weights in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clif_exp.base_models.spec import BaseModels
from clif_exp.base_models.tokens import EMBEDDINGS_FILE


def load_customised_pipeline(
    spec: BaseModels, *, diffusion: Path | None, device: str
) -> tuple[Any, dict[str, int]]:
    """Load the base pipeline and put into it what training published.

    Args:
        spec: resolved base models.
        diffusion: folder of a training stage; None leaves the base model as it is.
        device: torch device.

    Returns:
        The pipeline, and how many tokens each concept has (for `tokens.expand_prompt`; empty for
        the base).
    """
    import torch

    from clif_exp.base_models.loading import load_pipeline

    dtype = torch.float32 if str(device) == "cpu" else torch.float16
    pipeline: Any = load_pipeline(spec, device=device, dtype=dtype)
    if diffusion is None:
        return pipeline, {}
    return pipeline, customise(pipeline, diffusion, fuse=dtype == torch.float32)


def customise(pipeline: Any, folder: Path, *, fuse: bool) -> dict[str, int]:
    """Put a folder's concept embeddings and trained weights into a stock pipeline.

    Args:
        pipeline: changes in place.
        folder: of a training stage; what the method did not train is not in it.
        fuse: see `unet_tuning.registry.load_unet_tuning`.

    Returns:
        Concept -> number of its tokens.
    """
    num_tokens = insert_embeddings(pipeline, folder)
    load_tuning(pipeline, folder, fuse=fuse)
    return num_tokens


def insert_embeddings(pipeline: Any, folder: Path) -> dict[str, int]:
    """Put a folder's concept embeddings, if it holds any, into a stock pipeline.

    Embeddings may be the same in all layers of the U-Net, or layer-wise (`layerwise`).

    Args:
        pipeline: changes in place.
        folder: of a training stage.

    Returns:
        Concept -> number of its tokens.
    """
    from clif_exp.base_models.layerwise import (
        LAYERWISE_FILE,
        insert_layerwise,
        load_layerwise_embeddings,
    )
    from clif_exp.base_models.loading import text_encoders_of
    from clif_exp.base_models.tokens import apply_concept_embeddings, load_concept_embeddings

    encoders = text_encoders_of(pipeline)
    num_tokens: dict[str, int] = {}
    if (folder / LAYERWISE_FILE).exists():
        layerwise = load_layerwise_embeddings(folder)
        insert_layerwise(pipeline, encoders, layerwise)
        own = next(iter(layerwise.values()))
        return {concept: rows_LTD.shape[1] for concept, rows_LTD in own.items()}
    if (folder / EMBEDDINGS_FILE).exists():
        for name, embeddings in load_concept_embeddings(folder / EMBEDDINGS_FILE).items():
            apply_concept_embeddings(*encoders[name], embeddings)
            num_tokens |= {concept: len(vectors) for concept, vectors in embeddings.items()}
    return num_tokens


def load_tuning(pipeline: Any, folder: Path, *, fuse: bool) -> None:
    """Put what a folder trained in the text encoders and the U-Net into a stock pipeline.

    Args:
        pipeline: changes in place.
        folder: of a training stage.
        fuse: see `unet_tuning.registry.load_unet_tuning`.
    """
    from clif_exp.base_models.loading import text_encoders_of
    from clif_exp.base_models.text_tuning import apply_text_tuning
    from clif_exp.base_models.unet_tuning.lora import LoraTuning
    from clif_exp.base_models.unet_tuning.registry import load_unet_tuning

    # A LoRA of the text encoders comes with the U-Net's, from the file that stock pipelines load,
    # which stage 1's own folder does not have.
    alone = not LoraTuning.published_in(folder)
    encoders = {name: encoder for name, (_, encoder) in text_encoders_of(pipeline).items()}
    apply_text_tuning(folder, encoders, lora=alone)
    load_unet_tuning(pipeline, folder, fuse=fuse)
