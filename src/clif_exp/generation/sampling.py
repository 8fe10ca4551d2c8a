"""Batched sampling with the stock diffusers pipeline, one noise stream per image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from clif_exp.generation.guidance.applying import Guided


def noise_seed(prompt: str, seed: int) -> int:
    """Return the seed of an image's initial noise; independent of order and batch."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{prompt}".encode()).digest()[:7], "big")


def sample(
    pipeline: Any,
    prompts: Sequence[str],
    *,
    noise_seeds: Sequence[int],
    num_inference_steps: int,
    guidance_scale: float,
    mixed_precision: bool = True,
    guided: Guided | None = None,
    after_step: Callable[..., dict[str, Any]] | None = None,
) -> list[np.ndarray]:
    """Sample one batch.

    Args:
        pipeline: a stock text-to-image pipeline.
        prompts: with placeholders, not expanded: the stock pipeline expands them itself.
        noise_seeds: one per prompt, of that image's own generator.
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance; 1 switches it off.
        mixed_precision: allow bf16 autocast on CPUs that have it in hardware.
        guided: guidance by related work; None: the pipeline alone.
        after_step: the pipeline's `callback_on_step_end`; not beside a guidance, which has its own.

    Returns:
        One uint8 array [H, W, 3] per prompt.

    Raises:
        FloatingPointError: an image holds NaN or infinity; names its prompt.
    """
    import torch

    from clif_exp.base_models.precision import cpu_autocast
    from clif_exp.generation.guidance.applying import guidance

    assert guided is None or after_step is None
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in noise_seeds]
    device = pipeline.unet.device.type
    with ExitStack() as stack:
        # Guidance by gradients cannot read tensors that were made in inference mode.
        stack.enter_context(torch.no_grad() if guided else torch.inference_mode())
        stack.enter_context(cpu_autocast(enabled=mixed_precision and device == "cpu"))
        guiding = (
            stack.enter_context(guidance(pipeline, prompts, guided=guided, generators=generators))
            if guided
            else {"callback_on_step_end": after_step}
        )
        pixels_BCHW = pipeline(
            prompt=list(prompts),
            generator=generators,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            output_type="pt",
            **guiding,
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
