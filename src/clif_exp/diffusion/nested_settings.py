"""Parts of stage 2's settings that have settings of their own (`diffusion.settings`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from clif_exp.settings import (
    SPEED,
    AboveZero,
    Amount,
    Count,
    DenoisingSteps,
    NotNegative,
    Positive,
    Strict,
    Word,
)


class SampleSettings(Strict):
    """Grids of images at fixed prompts and seeds while training.

    Attributes:
        every: steps between grids; step 0 always, 0: only that one.
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance.
        batch_size: images sampled at once.
    """

    every: Count
    num_inference_steps: DenoisingSteps
    guidance_scale: NotNegative
    batch_size: Annotated[int, Field(ge=1), SPEED]


class ValidationSettings(Strict):
    """The loss at fixed images, noise and timesteps, step 0 included.

    Attributes:
        every: steps between evaluations.
        images: how many.
        timesteps: per image.
    """

    every: Positive
    images: Annotated[Amount, Field(ge=1)]
    timesteps: DenoisingSteps


class PriorSettings(Strict):
    """Images that the untouched base model draws, artifacts of their own.

    Attributes:
        images: how many of general prompts, each of a prompt of its own.
        class_images: how many of each class word, "a photo of a cat" (DreamBooth, Ruiz et al. 2023,
            section 3.3; 200 there).
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance; 1 switches it off.
        batch_size: images at a time.
        mixed_precision: bf16 where the CPU multiplies it in hardware.
        seed: of the prompts and of the noise.
    """

    images: Amount
    class_images: Amount
    num_inference_steps: DenoisingSteps
    guidance_scale: Annotated[float, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1), SPEED]
    mixed_precision: bool
    seed: Count


class ScaleSettings(Strict):
    """Custom Diffusion's scale augmentation (Kumari et al. 2023, appendix).

    Attributes:
        variants: of every single image: each at a scale and place of its own, in training as often
            as the others. The published code draws them anew in every step.
    """

    variants: Annotated[Amount, Field(ge=1)]


class TextLoraSettings(Strict):
    """A LoRA on the text encoders, trained in stage 2 beside the concept embeddings.

    Attributes:
        learning_rate: AdamW's, its peak.
        rank: of the update.
        alpha: the update is scaled by alpha / rank.
        target_modules: endings of the layers that get it.
    """

    learning_rate: AboveZero
    rank: Positive
    alpha: AboveZero
    target_modules: Annotated[list[Word], Field(min_length=1)]
