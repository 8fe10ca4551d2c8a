"""The base diffusion model: v-prediction, min-SNR weights, zero terminal SNR, classifier-free
dropout, averaged weights.

A head that is thrown away afterwards reads from the features what is where (`places`): it teaches
the cross-attention which word belongs to which place long before the pixels would.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clif_exp.toonworld.architectures import build_scheduler, build_unet
from clif_exp.toonworld.grammar import caption, full_caption
from clif_exp.toonworld.recipes import leaks, places
from clif_exp.toonworld.recipes.corpus import Corpus
from clif_exp.toonworld.recipes.fit import Batch, Recipe
from clif_exp.toonworld.world import Scene

MIN_SNR_GAMMA = 5.0
WEIGHT_FLOOR = 0.4
# timesteps are drawn by 1 - u ** NOISINESS: which of two figures stands where is decided close to
# pure noise
NOISINESS = 1.6
DROPOUT = 0.1
FULL_CAPTIONS = 0.3  # share of captions that leave nothing out
# how often a scene of two comes up beside any other: who wears what and stands where is the harder
# part
PAIR_WEIGHT = 2.5
# times as often, a pair of which one wears a hat: that the other wears none is said by silence
# alone
ONE_HAT = 2.0
BEHIND = 2.0  # times as often: of all relations it was drawn wrongly most
# share of the pairs, at noisy timesteps, whose input shows a leak (`leaks`) and whose target does
# not
LEAKS = 0.5
LEAK_FROM = 400  # timestep: an SNR of 0.75; below, what a figure wears is settled
PLACES_WEIGHT = 0.03  # of the sum over all questions: about the size of the other term


class _WithPlaces(nn.Module):
    def __init__(self, unet: Any):
        super().__init__()
        self.unet = unet
        width = unet.config.block_out_channels[-1]
        self.reader = nn.Sequential(nn.GroupNorm(8, width), nn.Conv2d(width, places.ANSWERS, 1))

    def forward(self, noisy: Tensor, times: Tensor, context: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Predicted velocity, and logits per question of `places.CLASSES` behind the last
        attention.
        """
        return places.read(
            lambda: self.unet(noisy, times, context).sample,
            layer=self.unet.up_blocks[0],
            reader=self.reader,
        )


def recipe(
    corpus: Corpus,
    latents_NCHW: np.ndarray,
    leaks_PCHW: np.ndarray,
    *,
    tokenizer,
    text_encoder: nn.Module,
    steps: int = 8_000,
    batch_size: int = 32,
) -> Recipe:
    """The U-Net on latents of the corpus and of `leaks.encode_leaks`, for the text encoder that it
    will ship with.
    """
    from diffusers.models.attention_processor import AttnProcessor

    torch.manual_seed(99)
    unet = build_unet()
    unet.set_attn_processor(
        AttnProcessor()
    )  # plain attention: 1.3 times faster than torch's fused one at this size on CPUs
    model = _WithPlaces(unet)
    scheduler = build_scheduler()
    alphas = scheduler.alphas_cumprod
    text_encoder = text_encoder.eval().requires_grad_(False)
    chances = np.array([_weight(scene) for scene in corpus.scenes])
    chances /= chances.sum()
    leak_of = dict(zip(leaks.pairs_of(corpus).tolist(), range(len(leaks_PCHW)), strict=True))

    def batch(step: int) -> Batch:
        rng = np.random.default_rng([5, step])
        rows = np.sort(rng.choice(len(corpus), batch_size, replace=False, p=chances))
        scenes = [corpus.scenes[row] for row in rows]
        captions = [_said(scene, rng) for scene in scenes]
        ids = tokenizer(captions, padding="max_length", return_tensors="pt").input_ids
        # Stratified timesteps: the batch covers the schedule evenly, which quietens the loss.
        cell = corpus.labels_NHW.shape[1] // latents_NCHW.shape[2]
        y, x = rng.integers(
            cell, size=2
        )  # another pixel of each cell every time: soft targets, on average
        shares = (np.arange(batch_size) + rng.random(batch_size)) / batch_size
        times = ((1 - (1 - shares) ** NOISINESS) * len(alphas)).astype(np.int64)
        times = rng.permutation(times)
        shown_BCHW = latents_NCHW[rows].astype(np.float32)
        for place, (row, said) in enumerate(zip(rows.tolist(), captions, strict=True)):
            if said and row in leak_of and times[place] >= LEAK_FROM and rng.random() < LEAKS:
                share = rng.uniform(0.3, 1.0)
                shown_BCHW[place] += share * (
                    leaks_PCHW[leak_of[row]].astype(np.float32) - shown_BCHW[place]
                )
        return {
            "latents_BCHW": torch.from_numpy(latents_NCHW[rows]).float(),
            "shown_BCHW": torch.from_numpy(shown_BCHW),
            "input_ids": ids,
            "timesteps": torch.from_numpy(times),
            "places_BQHW": torch.from_numpy(
                places.targets(scenes, corpus.labels_NHW[rows][:, y::cell, x::cell])
            ),
        }

    def loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        latents, times = batch["latents_BCHW"], batch["timesteps"]
        with torch.no_grad():
            context = text_encoder(batch["input_ids"]).last_hidden_state
        noisy = scheduler.add_noise(batch["shown_BCHW"], torch.randn_like(latents), times)
        # The velocity that leads from here to the true latents; without a leak it is diffusers'
        # get_velocity.
        alpha_B111 = alphas[times].view(-1, 1, 1, 1)
        target = (alpha_B111.sqrt() * noisy - latents) / (1 - alpha_B111).sqrt()
        velocity, answers = model(noisy, times, context)
        error = (velocity.float() - target).square().mean(dim=(1, 2, 3))
        snr = alphas[times] / (1 - alphas[times])
        # Min-SNR for v-prediction (Hang et al. 2023), with a floor: near pure noise, where it would
        # vanish, the layout is made.
        weight = (snr.clamp(max=MIN_SNR_GAMMA) / (snr + 1)).clamp(min=WEIGHT_FLOOR)
        wrong = [
            F.cross_entropy(found, batch["places_BQHW"][:, i], ignore_index=places.IGNORED)
            for i, found in enumerate(answers)
        ]
        told = dict(zip(places.CLASSES, wrong, strict=True))
        scalars = {
            "velocity_error": error.detach().mean(),
            "colour": told["colour"].detach(),
            "kind": told["kind"].detach(),
        }
        return (weight * error).mean() + PLACES_WEIGHT * torch.stack(wrong).sum(), scalars

    def publish(trained: Any, out: Path) -> None:
        trained.unet.save_pretrained(out, safe_serialization=True)

    return Recipe(
        "unet",
        model,
        batch,
        loss,
        publish,
        steps=steps,
        learning_rate=2e-3,
        average=0.999,
        core="unet",
    )


def _weight(scene: Scene) -> float:
    """How often a scene comes up beside a single figure."""
    if len(scene.figures) != 2:
        return 1.0
    hats = sum(figure.character.hat != "none" for figure in scene.figures)
    return (
        PAIR_WEIGHT
        * (ONE_HAT if hats == 1 else 1.0)
        * (BEHIND if scene.interaction == "behind" else 1.0)
    )


def _said(scene: Scene, rng: np.random.Generator) -> str:
    if rng.random() < DROPOUT:
        return ""
    whole = (
        len(scene.figures) < 3 and rng.random() < FULL_CAPTIONS
    )  # three figures in full are more than 77 tokens
    return full_caption(scene) if whole else caption(scene, rng)
