"""Noise and targets as the base model's scheduler states them: noise, velocity, image or flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from clif_exp.base_models.scheduler import prediction_of
from clif_exp.diffusion.checks import no_min_snr


class NoiseSchedule(Protocol):
    """How latents are noised and what the U-Net is to predict.

    Timesteps are int64 [B] in [0, num_timesteps).
    """

    @property
    def num_timesteps(self) -> int:
        """Number of timesteps to draw from."""
        ...

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Mix latents and noise, [B, C, h, w]."""
        ...

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the U-Net is to predict, [B, C, h, w]."""
        ...

    def model_timesteps(self, timesteps: Tensor) -> Tensor:
        """Return the timesteps that the U-Net is given, [B]."""
        ...

    def min_snr(self, timesteps: Tensor, *, gamma: float) -> Tensor:
        """Return min-SNR weights, float32 [B]."""
        ...


@dataclass(frozen=True)
class VariancePreserving:
    """Stable Diffusion's schedules.

    Attributes:
        scheduler: a DDPMScheduler with the base's betas.
        prediction: "epsilon", "v_prediction" or "sample".
    """

    scheduler: Any
    prediction: str

    @property
    def num_timesteps(self) -> int:
        """Number of timesteps to draw from."""
        return self.scheduler.config.num_train_timesteps

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Mix latents and noise."""
        return self.scheduler.add_noise(latents, noise, timesteps)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the noise, the velocity (Salimans and Ho 2022) or the latents themselves."""
        if self.prediction == "v_prediction":
            return self.scheduler.get_velocity(latents, noise, timesteps)
        return noise if self.prediction == "epsilon" else latents

    def model_timesteps(self, timesteps: Tensor) -> Tensor:
        """Return the timesteps as they are."""
        return timesteps

    def min_snr(self, timesteps: Tensor, *, gamma: float) -> Tensor:
        """Return min(SNR, gamma) over the prediction's own weight (Hang et al. 2023, 3.4)."""
        alphas = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps].float()
        snr = alphas / (1 - alphas).clamp(min=1e-8)
        capped = snr.clamp(max=gamma)
        return {
            "epsilon": capped / snr.clamp(min=1e-8),
            "v_prediction": capped / (snr + 1),
            "sample": capped,
        }[self.prediction]


@dataclass(frozen=True)
class Flow:
    """Rectified flow (Liu et al. 2023): a straight line from latents to noise, at constant speed.

    Attributes:
        num_timesteps: of the base's scheduler.
        shift: of its noise levels towards noise; 1 leaves them even.
    """

    num_timesteps: int
    shift: float = 1.0

    def levels(self, timesteps: Tensor) -> Tensor:
        """Return noise levels in (0, 1], float32 [B]."""
        even = (timesteps.float() + 1) / self.num_timesteps
        return self.shift * even / (1 + (self.shift - 1) * even)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Mix latents and noise."""
        levels = self.levels(timesteps).view(-1, 1, 1, 1)
        return (1 - levels) * latents + levels * noise

    def target(
        self,
        latents: Tensor,
        noise: Tensor,
        timesteps: Tensor,  # noqa: ARG002  # the protocol's
    ) -> Tensor:
        """Return the flow, from the latents to the noise."""
        return noise - latents

    def model_timesteps(self, timesteps: Tensor) -> Tensor:
        """Return the noise levels in units of timesteps, as samplers pass them to the U-Net."""
        return self.levels(timesteps) * self.num_timesteps

    def min_snr(
        self,
        timesteps: Tensor,  # noqa: ARG002  # the protocol's
        *,
        gamma: float,
    ) -> Tensor:
        """Refuse: the weighting is defined for diffusion.

        Raises:
            ValueError: always.
        """
        raise ValueError(no_min_snr(gamma))


def noise_schedule(scheduler: Any) -> NoiseSchedule:
    """Return the training schedule of a pipeline's scheduler.

    Args:
        scheduler: any diffusers scheduler; only its config is read.

    Raises:
        ValueError: the scheduler's prediction is unknown.
    """
    from diffusers import DDPMScheduler

    config = dict(scheduler.config) | {"_class_name": type(scheduler).__name__}
    kind = prediction_of(config)
    if kind == "flow_prediction":
        shift = config.get("flow_shift", config.get("shift", 1.0))
        return Flow(config["num_train_timesteps"], float(shift or 1.0))
    return VariancePreserving(DDPMScheduler.from_config(scheduler.config), kind)


def even_timesteps(count: int, *, num_timesteps: int) -> Tensor:
    """Return the middles of `count` equal stretches of the schedule, int64 [count]."""
    return ((torch.arange(count) + 0.5) / count * num_timesteps).long()
