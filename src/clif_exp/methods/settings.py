"""Settings of how concepts that were customised apart become one model, conf's `method.merging`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clif_exp.settings import Amount, Count, DenoisingSteps, NotNegative, StageSettings, Strict


class ConstrainedMerge(StageSettings):
    """Custom Diffusion's closed form for keys and values (Kumari et al. 2023, section 3.2).

    Attributes:
        UNETS: the choices of diffusion.unet whose results it merges.
        MERGES_TEXT: whether it merges what was trained in text encoders, and embeddings per layer.
        captions: general prompts on whose tokens the base stays nearest to itself; they need more
            independent tokens than the text encoders have features.
        seed: of their choice.
    """

    VERSION: ClassVar[int] = 1
    UNETS: ClassVar[tuple[str, ...]] = ("weights",)
    MERGES_TEXT: ClassVar[bool] = False

    kind: Literal["constrained"]
    captions: Annotated[Amount, Field(ge=1)]
    seed: Count


class Addition(StageSettings):
    """Sum of LoRAs, exact where their inputs are disjoint (Orthogonal Adaptation, Po et al. 2024).

    Attributes:
        UNETS: see `ConstrainedMerge`.
        MERGES_TEXT: see `ConstrainedMerge`.
    """

    VERSION: ClassVar[int] = 1
    UNETS: ClassVar[tuple[str, ...]] = ("lora", "frozen")
    MERGES_TEXT: ClassVar[bool] = False

    kind: Literal["addition"]


class Ridge(Strict):
    """Price of a change of weights (`gradient_fusion.LayerFusion.solve`) per group of layers.

    Attributes:
        text: of the text encoders' layers.
        keys_and_values: of the cross-attention.
        spatial: of the U-Net's other layers.
    """

    text: NotNegative
    keys_and_values: NotNegative
    spatial: NotNegative


class GradientFusion(StageSettings):
    """Mix-of-Show's least-squares fusion of layers (Gu et al. 2023, section 3.3).

    Attributes:
        UNETS: see `ConstrainedMerge`.
        MERGES_TEXT: see `ConstrainedMerge`.
        num_inference_steps: of the sampling that records the inputs of spatial layers.
        seed: of its noise.
        ridge: price of a change of weights, per group of layers; 0 is the exact optimum, the
            paper's descent ends earlier.
    """

    VERSION: ClassVar[int] = 1
    UNETS: ClassVar[tuple[str, ...]] = ("lora", "weights", "frozen")
    MERGES_TEXT: ClassVar[bool] = True

    kind: Literal["gradient_fusion"]
    num_inference_steps: DenoisingSteps
    seed: Count
    ridge: Ridge


MergingSettings = ConstrainedMerge | Addition | GradientFusion
