"""Settings of generation, conf/generation, but for its prompts (`prompts.settings`)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clif_exp.prompts.settings import PromptSettings
from clif_exp.settings import (
    INDIRECT,
    SPEED,
    AboveZero,
    Count,
    DenoisingSteps,
    NotNegative,
    Range,
    Share,
    StageSettings,
    Strict,
)

Guidance = Literal["attend_and_excite", "divide_and_bind", "composable", "regional"]


class LatentGuidanceSettings(StageSettings):
    """When and how far the latents move (Chefer et al. 2023, section 3).

    Its VERSION is beside generation's, so that images without guidance stay what they are.

    Attributes:
        scale: of the gradient; 0 leaves everything as it is.
        scale_range: its factor at the first and last step; the root of it counts.
        until: share of the steps that are guided.
        thresholds: share of the steps -> strength that every concept must reach there, by more
            moves in one step.
        max_refinements: most moves in such a step.
    """

    VERSION: ClassVar[int] = 2

    scale: NotNegative
    scale_range: Range
    until: Share
    thresholds: dict[Share, NotNegative]
    max_refinements: Count

    def relevant(self) -> dict[str, Any]:
        """Return what can change a guided image."""
        return {**super().relevant(), "version": self.VERSION}


class ComposableSettings(Strict):
    """How concepts are added (Liu et al. 2022).

    Attributes:
        weight: of each concept.
    """

    weight: AboveZero


class RegionalSettings(Strict):
    """How concepts keep to their part of the image (`guidance.regional`; Gu et al. 2023).

    Attributes:
        weight: of a part's own text in cross-attention; the rest is the whole prompt's.
    """

    weight: Annotated[float, Field(gt=0, le=1)]


class GenerationSettings(StageSettings):
    """How the evaluation prompts are sampled.

    Attributes:
        prompts: which prompts.
        seeds: sampling seeds, one image of each prompt per seed.
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance; 1 switches it off.
        batch_size: images at a time.
        mixed_precision: bf16 where the CPU multiplies it in hardware.
        guidance: of prompts with concepts by what related work does at inference; None: none.
        attend_and_excite: how, if it is this one.
        divide_and_bind: how, if it is this one.
        composable: how, if it is this one.
        regional: how, if it is this one.
    """

    VERSION: ClassVar[int] = 3

    prompts: PromptSettings
    seeds: Annotated[list[Count], Field(min_length=1)]
    num_inference_steps: DenoisingSteps
    guidance_scale: Annotated[float, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1), SPEED]
    mixed_precision: bool
    guidance: Guidance | None
    attend_and_excite: Annotated[LatentGuidanceSettings, INDIRECT]
    divide_and_bind: Annotated[LatentGuidanceSettings, INDIRECT]
    composable: Annotated[ComposableSettings, INDIRECT]
    regional: Annotated[RegionalSettings, INDIRECT]

    def latent_guidance(self) -> LatentGuidanceSettings:
        """Return the settings of a guidance by gradients."""
        return (
            self.divide_and_bind if self.guidance == "divide_and_bind" else self.attend_and_excite
        )

    @property
    def compared(self) -> Guidance | None:
        """By which guidance a report shows some prompts beside the run's: none, else by region."""
        return "regional" if self.guidance is None else None

    def relevant(self) -> dict[str, Any]:
        """Return what can change an image: of the guidances only the chosen one."""
        chosen = getattr(self, self.guidance).relevant() if self.guidance else {}
        return {**super().relevant(), **({self.guidance: chosen} if self.guidance else {})}

    @model_validator(mode="after")
    def _something_to_compose(self) -> Self:
        if self.guidance == "composable" and self.guidance_scale == 1:
            raise ValueError(
                "guidance: found 'composable' with generation.guidance_scale=1, without which"
                " nothing is composed; use a higher one"
            )
        return self

    @model_validator(mode="after")
    def _each_seed_once(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: found {self.seeds}, with repetitions; name each once")
        return self
