"""Guidance of the latents by cross-attention: Attend-and-Excite, Divide & Bind.

Before a denoising step the latents move against the gradient of a loss on the maps of the prompt's
concepts: none of them shall be neglected. The loss sees the conditional half only, and each image
for itself, so that an image does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clif_exp.base_models.attention_maps import recorded

if TYPE_CHECKING:
    from clif_exp.generation.settings import LatentGuidanceSettings

Positions = Sequence[Sequence[int]]
"""Per concept of a prompt the positions of its tokens in the text."""


def concept_maps(attention_HWK: Tensor, positions: Positions) -> Tensor:
    """Return one smoothed map per concept (Chefer et al. 2023, section 3).

    Args:
        attention_HWK: mean attention to the text's tokens, float32.
        positions: of each concept's tokens; a concept of several tokens has their mean map.

    Returns:
        float32 [C, H, W]. The beginning of text, which takes most of the attention, is left out,
        and the rest sharpened by a softmax at 1 / 100.
    """
    from torchvision.transforms.functional import gaussian_blur

    shares_HWK = (100 * attention_HWK[..., 1:-1]).softmax(-1)
    maps_CHW = torch.stack(
        [shares_HWK[..., [index - 1 for index in own]].mean(-1) for own in positions]
    )
    return gaussian_blur(maps_CHW, [3, 3], [0.5, 0.5])


def largest(maps_CHW: Tensor) -> Tensor:
    """Return each concept's largest attention, [C]: what Attend-and-Excite raises."""
    return maps_CHW.amax(dim=(1, 2))


def total_variation(maps_CHW: Tensor) -> Tensor:
    """Return each map's mean step between neighbours, [C]: what Divide & Bind raises.

    Li et al. (2023), section 4.1. Their code compares all rows with the last one in place of
    neighbouring rows; this is the published formula.
    """
    across = maps_CHW.diff(dim=2).abs().mean(dim=(1, 2))
    down = maps_CHW.diff(dim=1).abs().mean(dim=(1, 2))
    return across + down


STRENGTHS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "attend_and_excite": (largest, 1.0),
    "divide_and_bind": (total_variation, 0.0),
}
"""Guidance -> (strength of each concept's map, what the loss measures it from). The loss is that of
the weakest concept. Divide & Bind's binding of attributes to nouns has no place here: a concept's
look is in its token, not in words beside it."""


class LatentGuidance:
    """Moves the latents of one batch, step by step.

    Args:
        pipeline: a stock pipeline, whose U-Net and scheduler are used.
        name: in `STRENGTHS`.
        arguments: the U-Net's keyword arguments for the prompts without negative ones, [B, ...].
        positions: per prompt; one that names no concept is left alone.
        num_steps: denoising steps.
        settings: when, and how far.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        name: str,
        arguments: Mapping[str, Any],
        positions: Sequence[Positions],
        num_steps: int,
        settings: LatentGuidanceSettings,
    ) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.strength, self.reference = STRENGTHS[name]
        self.rows = [row for row, named in enumerate(positions) if named]
        self.positions = [positions[row] for row in self.rows]
        self.arguments = _take(arguments, self.rows)
        self.until = round(settings.until * num_steps)
        # The published schedule has 50 steps; others have the same shares.
        self.thresholds = {
            round(share * num_steps): threshold for share, threshold in settings.thresholds.items()
        }
        first, last = settings.scale_range
        self.factors = torch.linspace(first, last, num_steps).sqrt().tolist()

    def refined(self, latents_BCHW: Tensor, *, step: int) -> Tensor:
        """Return the latents as the U-Net shall see them in a step.

        Args:
            latents_BCHW: not yet scaled for the U-Net.
            step: of `num_steps`, from 0.
        """
        if step >= self.until or not self.rows or not self.settings.scale:
            return latents_BCHW
        size, timestep = self.settings.scale * self.factors[step], self._timestep(step)
        guided = latents_BCHW[self.rows].float()
        strengths_B, gradient = self._gradient(guided, timestep)
        threshold = self.thresholds.get(step, 0.0)
        for _ in range(self.settings.max_refinements):
            weak_B = strengths_B < threshold
            if not bool(weak_B.any()):
                break
            guided = guided - size * gradient * weak_B.view(-1, 1, 1, 1)
            strengths_B, gradient = self._gradient(guided, timestep)
        result = latents_BCHW.clone()
        result[self.rows] = (guided - size * gradient).to(result.dtype)
        return result

    def weakest(self, latents_BCHW: Tensor, *, step: int) -> Tensor:
        """Return the strength of each guided prompt's weakest concept, float32 [rows]."""
        return self._gradient(latents_BCHW[self.rows].float(), self._timestep(step))[0]

    def after_step(
        self, _pipeline: Any, step: int, _timestep: Any, given: dict[str, Any]
    ) -> dict[str, Any]:
        """Refine the latents for the next step: the pipeline's `callback_on_step_end`."""
        if step + 1 < len(self.factors):
            return {"latents": self.refined(given["latents"], step=step + 1)}
        return {}

    def _timestep(self, step: int) -> Tensor:
        timestep: Tensor = self.pipeline.scheduler.timesteps[step]
        return timestep

    def _gradient(self, latents_BCHW: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Return each image's weakest strength [B], and the gradient of the loss."""
        unet = self.pipeline.unet
        with torch.enable_grad(), recorded(unet) as maps:
            latents = latents_BCHW.detach().requires_grad_(True)
            scaled = self.pipeline.scheduler.scale_model_input(latents, timestep)
            unet(scaled.to(unet.dtype), timestep, **self.arguments)
            mean_BHWK = maps.mean(maps.semantic_side(latents.shape[-1]))
            strengths_B = torch.stack(
                [
                    self.strength(concept_maps(attention, named)).min()
                    for attention, named in zip(mean_BHWK, self.positions, strict=True)
                ]
            )
            loss = (self.reference - strengths_B).sum()
            (gradient,) = torch.autograd.grad(loss, latents)
        return strengths_B.detach(), gradient


def _take(arguments: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Keep some prompts of the U-Net's keyword arguments."""
    return {
        key: _take(value, rows) if isinstance(value, Mapping) else value[list(rows)]
        for key, value in arguments.items()
    }
