"""Batched sampling with the stock diffusers pipeline, one noise stream per image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from clif_exp.base_models.spec import BaseModels

LORA_FILE = "pytorch_lora_weights.safetensors"
EMBEDDINGS_FILE = "concept_embeddings.safetensors"


def noise_seed(prompt: str, seed: int) -> int:
    """Seed of an image's initial noise: depends on the prompt's text and its seed only, so neither
    order nor batch matters.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}|{prompt}".encode()).digest()[:7], "big")


def load_customised_pipeline(
    spec: BaseModels, *, diffusion: Path | None, device: str
) -> tuple[Any, dict[str, int]]:
    """Load the base pipeline and put the trained embeddings and LoRA into it.

    Args:
        spec: the base models.
        diffusion: folder with `concept_embeddings.safetensors` and, unless the method trains none,
            LoRA weights and those of a wholly trained text encoder; None for the base.
        device: torch device.

    Returns:
        The pipeline, and how many tokens each concept has (for `tokens.expand_prompt`; empty for
        the base).
    """
    import torch

    from clif_exp.base_models.loading import load_pipeline, text_encoders_of
    from clif_exp.base_models.text_tuning import apply_text_tuning
    from clif_exp.base_models.tokens import apply_concept_embeddings, load_concept_embeddings

    dtype = torch.float32 if str(device) == "cpu" else torch.float16
    pipeline: Any = load_pipeline(spec, device=device, dtype=dtype)
    num_tokens: dict[str, int] = {}
    if diffusion is not None:
        if (diffusion / EMBEDDINGS_FILE).exists():
            for encoder, rows in load_concept_embeddings(diffusion / EMBEDDINGS_FILE).items():
                tokenizer = getattr(pipeline, encoder.replace("text_encoder", "tokenizer"))
                apply_concept_embeddings(tokenizer, getattr(pipeline, encoder), rows)
                num_tokens.update({name: len(vectors) for name, vectors in rows.items()})
        # A LoRA of the text encoders comes with the U-Net's, in the file that the stock pipeline
        # loads below.
        encoders = {name: encoder for name, (_, encoder) in text_encoders_of(pipeline).items()}
        apply_text_tuning(diffusion, encoders, lora=False)
        if (diffusion / LORA_FILE).exists():
            load_lora(pipeline, diffusion)
            if dtype == torch.float32:
                # One matrix product per layer instead of three. Half-precision weights would lose
                # part of the small update.
                pipeline.fuse_lora()
                pipeline.unload_lora_weights()
    return pipeline, num_tokens


def load_lora(pipeline: Any, folder: Path) -> None:
    """Load a folder's LoRA of the U-Net and, if stage 1 trained one, of the text encoders, without
    a warning where it did not.
    """
    from diffusers.utils import logging

    previous = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        pipeline.load_lora_weights(folder, weight_name=LORA_FILE)
    finally:
        logging.set_verbosity(previous)


def sample(
    pipeline: Any,
    prompts: Sequence[str],
    *,
    noise_seeds: Sequence[int],
    num_inference_steps: int,
    guidance_scale: float,
    mixed_precision: bool = True,
) -> list[np.ndarray]:
    """Sample one batch.

    Args:
        pipeline: a stock text-to-image pipeline.
        prompts: with placeholders; the stock pipeline writes them out as tokens itself (twice, if
            they were expanded before).
        noise_seeds: one per prompt, of that image's own generator.
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance; 1 switches it off.
        mixed_precision: allow bf16 autocast on CPUs that have it in hardware.

    Returns:
        One uint8 array [H, W, 3] per prompt.

    Raises:
        FloatingPointError: an image holds NaN or infinity; names its prompt.
    """
    import torch

    from clif_exp.base_models.precision import cpu_autocast

    generators = [torch.Generator("cpu").manual_seed(seed) for seed in noise_seeds]
    device = pipeline.unet.device.type
    with torch.inference_mode(), cpu_autocast(enabled=mixed_precision and device == "cpu"):
        pixels_BCHW = pipeline(
            prompt=list(prompts),
            generator=generators,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            output_type="pt",
        ).images
    pixels_BCHW = pixels_BCHW.float()
    for prompt, pixels_CHW in zip(prompts, pixels_BCHW, strict=True):
        if not torch.isfinite(pixels_CHW).all():
            raise FloatingPointError(
                f"generation: the image for {prompt!r} is not finite. The trained weights have"
                " diverged."
            )
    pixels_BHWC = (pixels_BCHW.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return list(pixels_BHWC.cpu().numpy())
