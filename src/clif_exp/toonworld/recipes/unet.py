"""Training recipe of the U-Net: v-prediction, min-SNR weights, terminal SNR zero, caption dropout.

A head that is discarded afterwards classifies every place from the U-Net's features (`places`). It
teaches the cross-attention which word belongs to which place long before the pixels would.
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
# Timesteps are drawn as 1 - (1 - u) ** NOISINESS, because which of two figures stands where is
# decided close to pure noise.
NOISINESS = 1.6
DROPOUT = 0.1
FULL_CAPTIONS = 0.3  # share of captions that mention every attribute
# Sampling weights of scenes, relative to a single figure. Who wears what and stands where is hard,
PAIR_WEIGHT = 2.5
# captions do not mention that a figure has no hat, so a pair with one hat is harder,
ONE_HAT = 2.0
# and of all relations those in which one figure hides another were drawn wrongly most often.
OVERLAPS = {"behind": 2.5, "hugging": 1.5, "riding": 1.5}
# Not so where little but a head is visible: what somebody wears is not learnt from it.
HIDDEN = 0.12  # of the canvas, between the feet of both
LEAKS = 0.5  # share of the pairs at noisy timesteps whose input, not target, shows a leak (`leaks`)
LEAK_FROM = 400  # timestep of an SNR of 0.75; at lower ones it is settled what a figure wears
PLACES_WEIGHT = 0.03  # of the sum over all questions; makes it about as large as the other term


class _WithPlaces(nn.Module):
    def __init__(self, unet: Any):
        super().__init__()
        self.unet = unet
        width = unet.config.block_out_channels[-1]
        self.reader = nn.Sequential(nn.GroupNorm(8, width), nn.Conv2d(width, places.ANSWERS, 1))

    def forward(self, noisy: Tensor, times: Tensor, context: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Predict the velocity, and logits per question of `places.CLASSES` after the attention."""
        return places.read(
            lambda: self.unet(noisy, times, context).sample,
            layer=self.unet.up_blocks[0],
            reader=self.reader,
        )


class _Batches:
    """Noisy and true latents, captions, timesteps and place labels of a step.

    Args:
        corpus: scenes with label maps.
        latents_NCHW: the corpus's latents, float16.
        leaks_PCHW: latents of a leak of every pair, see `leaks.encode_leaks`.
        tokenizer: of the text encoder.
        timesteps: number of timesteps of the noise schedule.
        batch_size: scenes per step.
    """

    def __init__(
        self,
        corpus: Corpus,
        latents_NCHW: np.ndarray,
        leaks_PCHW: np.ndarray,
        *,
        tokenizer: Any,
        timesteps: int,
        batch_size: int,
    ) -> None:
        self.corpus, self.latents_NCHW, self.leaks_PCHW = corpus, latents_NCHW, leaks_PCHW
        self.tokenizer, self.timesteps, self.batch_size = tokenizer, timesteps, batch_size
        chances = np.array([_weight(scene) for scene in corpus.scenes])
        self.chances = chances / chances.sum()
        pairs = leaks.pairs_of(corpus).tolist()
        self.leak_of = dict(zip(pairs, range(len(leaks_PCHW)), strict=True))

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng([5, step])
        rows = np.sort(rng.choice(len(self.corpus), self.batch_size, replace=False, p=self.chances))
        scenes = [self.corpus.scenes[row] for row in rows]
        captions = [_caption(scene, rng) for scene in scenes]
        # Another pixel of each cell in every step: the targets are soft on average.
        cell = self.corpus.labels_NHW.shape[1] // self.latents_NCHW.shape[2]
        y, x = rng.integers(cell, size=2)
        times = self._timesteps(rng)
        shown_BCHW = self._shown(rows, captions, times, rng)
        labels = self.corpus.labels_NHW[rows][:, y::cell, x::cell]
        return {
            "latents_BCHW": torch.from_numpy(self.latents_NCHW[rows]).float(),
            "shown_BCHW": torch.from_numpy(shown_BCHW),
            "input_ids": self.tokenizer(
                captions, padding="max_length", return_tensors="pt"
            ).input_ids,
            "timesteps": torch.from_numpy(times),
            "places_BQHW": torch.from_numpy(places.targets(scenes, labels)),
        }

    def _timesteps(self, rng: np.random.Generator) -> np.ndarray:
        """Stratified timesteps, int64 [B]: every batch covers the schedule, for a steadier loss."""
        shares = (np.arange(self.batch_size) + rng.random(self.batch_size)) / self.batch_size
        times = ((1 - (1 - shares) ** NOISINESS) * self.timesteps).astype(np.int64)
        return rng.permutation(times)

    def _shown(
        self, rows: np.ndarray, captions: list[str], times: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The latents that noise is added to, float32 [B, C, H, W]: some move towards a leak."""
        shown_BCHW = self.latents_NCHW[rows].astype(np.float32)
        for place, (row, text) in enumerate(zip(rows.tolist(), captions, strict=True)):
            noisy = times[place] >= LEAK_FROM
            if text and row in self.leak_of and noisy and rng.random() < LEAKS:
                share = rng.uniform(0.3, 1.0)
                leak = self.leaks_PCHW[self.leak_of[row]].astype(np.float32)
                shown_BCHW[place] += share * (leak - shown_BCHW[place])
        return shown_BCHW


def recipe(
    corpus: Corpus,
    latents_NCHW: np.ndarray,
    leaks_PCHW: np.ndarray,
    *,
    tokenizer: Any,
    text_encoder: nn.Module,
    steps: int = 8_000,
    batch_size: int = 32,
) -> Recipe:
    """Train the U-Net on latents of the corpus and of leaks, for the text encoder it ships with.

    Args:
        corpus: scenes with label maps.
        latents_NCHW: the corpus's latents, float16, see `vae.encode_corpus`.
        leaks_PCHW: latents of a leak of every pair, float16, see `leaks.encode_leaks`.
        tokenizer: of the text encoder.
        text_encoder: stays frozen.
        steps: optimiser steps.
        batch_size: scenes per step.
    """
    from diffusers.models.attention_processor import AttnProcessor

    torch.manual_seed(99)
    unet = build_unet()
    # Plain attention is 1.3 times as fast as torch's fused one at this size on CPUs.
    unet.set_attn_processor(AttnProcessor())
    scheduler = build_scheduler()
    text_encoder = text_encoder.eval().requires_grad_(False)
    batches = _Batches(
        corpus,
        latents_NCHW,
        leaks_PCHW,
        tokenizer=tokenizer,
        timesteps=len(scheduler.alphas_cumprod),
        batch_size=batch_size,
    )

    def loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return _loss(model, batch, text_encoder=text_encoder, scheduler=scheduler)

    def publish(trained: Any, out: Path) -> None:
        trained.unet.save_pretrained(out, safe_serialization=True)

    return Recipe(
        "unet",
        _WithPlaces(unet),
        batches,
        loss,
        publish,
        steps=steps,
        learning_rate=2e-3,
        average=0.999,
        core="unet",
    )


def _loss(
    model: Any, batch: Batch, *, text_encoder: nn.Module, scheduler: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    latents, times = batch["latents_BCHW"], batch["timesteps"]
    alphas = scheduler.alphas_cumprod
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
    # Min-SNR for v-prediction (Hang et al. 2023), with a floor: the layout is made near pure noise,
    # where the weight would vanish.
    weight = (snr.clamp(max=MIN_SNR_GAMMA) / (snr + 1)).clamp(min=WEIGHT_FLOOR)
    entropies = [
        F.cross_entropy(logits, batch["places_BQHW"][:, i], ignore_index=places.IGNORED)
        for i, logits in enumerate(answers)
    ]
    entropy_of = dict(zip(places.CLASSES, entropies, strict=True))
    scalars = {
        "velocity_error": error.detach().mean(),
        "colour": entropy_of["colour"].detach(),
        "kind": entropy_of["kind"].detach(),
    }
    return (weight * error).mean() + PLACES_WEIGHT * torch.stack(entropies).sum(), scalars


def _weight(scene: Scene) -> float:
    """Sampling weight of a scene; that of a single figure is 1."""
    if len(scene.figures) != 2:
        return 1.0
    hats = sum(figure.character.hat != "none" for figure in scene.figures)
    overlap = 1.0 if _hidden(scene) else OVERLAPS.get(scene.interaction or "", 1.0)
    return PAIR_WEIGHT * (ONE_HAT if hats == 1 else 1.0) * overlap


def _hidden(scene: Scene) -> bool:
    """Whether one stands so far behind the other that little but a head is visible."""
    back, front = scene.figures
    return scene.interaction == "behind" and front.y - back.y > HIDDEN


def _caption(scene: Scene, rng: np.random.Generator) -> str:
    if rng.random() < DROPOUT:
        return ""
    # Three figures in full are more than 77 tokens.
    whole = len(scene.figures) < 3 and rng.random() < FULL_CAPTIONS
    return full_caption(scene) if whole else caption(scene, rng)
