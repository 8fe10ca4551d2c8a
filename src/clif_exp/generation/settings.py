"""Settings of generation, conf/generation, but for its prompts (`prompts.settings`)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from clif_exp.prompts.settings import PromptSettings
from clif_exp.settings import SPEED, Count, DenoisingSteps, StageSettings


class GenerationSettings(StageSettings):
    """How the evaluation prompts are sampled.

    Attributes:
        prompts: which prompts.
        seeds: sampling seeds, one image of each prompt per seed.
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance; 1 switches it off.
        batch_size: images at a time.
        mixed_precision: bf16 where the CPU multiplies it in hardware.
    """

    VERSION: ClassVar[int] = 2

    prompts: PromptSettings
    seeds: Annotated[list[Count], Field(min_length=1)]
    num_inference_steps: DenoisingSteps
    guidance_scale: Annotated[float, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1), SPEED]
    mixed_precision: bool

    @model_validator(mode="after")
    def _each_seed_once(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: found {self.seeds}, with repetitions; name each once")
        return self
