"""What the U-Net learns to predict is what the base's own sampler takes it for."""

from __future__ import annotations

import pytest
import torch

from clif_exp.diffusion.targets import Flow, even_timesteps, noise_schedule

LATENTS, NOISE = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_takes_the_sampler_to_the_latents(kind):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        prediction_type=kind, beta_schedule="scaled_linear", clip_sample=False
    )
    schedule, timesteps = noise_schedule(scheduler), torch.tensor([10, 500, 900])
    noisy, target = (
        schedule.add_noise(LATENTS, NOISE, timesteps),
        schedule.target(LATENTS, NOISE, timesteps),
    )
    scheduler.set_timesteps(1000)
    for index, timestep in enumerate(schedule.model_timesteps(timesteps).tolist()):
        step = scheduler.step(target[index], timestep, noisy[index])
        torch.testing.assert_close(step.pred_original_sample, LATENTS[index], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_noises_as_its_sampler_does(shift):
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    schedule, timesteps = noise_schedule(scheduler), torch.tensor([3, 500, 999])
    assert schedule == Flow(1000, shift)
    # The scheduler lists its timesteps from noise to image.
    torch.testing.assert_close(
        schedule.model_timesteps(timesteps), scheduler.timesteps.flip(0)[timesteps]
    )
    noisy = schedule.add_noise(LATENTS, NOISE, timesteps)
    theirs = scheduler.scale_noise(LATENTS, scheduler.timesteps.flip(0)[timesteps], NOISE)
    torch.testing.assert_close(noisy, theirs)
    levels = schedule.levels(timesteps).view(-1, 1, 1, 1)
    torch.testing.assert_close(noisy - levels * schedule.target(LATENTS, NOISE, timesteps), LATENTS)


def test_flow_prediction_of_other_samplers_is_known_and_anything_else_refused():
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

    assert noise_schedule(
        DPMSolverMultistepScheduler(prediction_type="flow_prediction", flow_shift=2.0)
    ) == Flow(1000, 2.0)
    scheduler = DDPMScheduler()
    scheduler.register_to_config(prediction_type="score")
    with pytest.raises(ValueError, match="prediction_type is 'score'; known are epsilon"):
        noise_schedule(scheduler)


def test_min_snr_equals_diffusers_recipe():
    from diffusers import DDPMScheduler
    from diffusers.training_utils import compute_snr

    timesteps = torch.tensor([5, 400, 900])
    for kind, divide in (("epsilon", 0), ("v_prediction", 1)):
        schedule = noise_schedule(
            DDPMScheduler(prediction_type=kind, beta_schedule="scaled_linear")
        )
        snr = compute_snr(schedule.scheduler, timesteps)
        torch.testing.assert_close(
            schedule.min_snr(timesteps, gamma=5.0), snr.clamp(max=5.0) / (snr + divide)
        )


def test_fixed_timesteps_are_spread_over_the_schedule():
    assert even_timesteps(4, num_timesteps=1000).tolist() == [125, 375, 625, 875]
