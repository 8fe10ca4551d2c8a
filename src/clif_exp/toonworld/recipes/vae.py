"""The autoencoder: L1 in pixels and in their gradients, with noise on the latents so that a U-Net may miss them a little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clif_exp.toonworld.architectures import RESOLUTION, build_vae
from clif_exp.toonworld.recipes.corpus import Corpus
from clif_exp.toonworld.recipes.fit import Batch, Recipe

LATENT_NOISE = 0.15  # in units of the latents' standard deviation, which the penalty keeps near 1
LATENT_PENALTY = 1e-3
CROP = 64  # pixels: the model is convolutional, and four times as many steps teach it more than four times the surface


def recipe(corpus: Corpus, *, steps: int = 6_000, batch_size: int = 16) -> Recipe:
    def batch(step: int) -> Batch:
        rng = np.random.default_rng([1, step])
        rows = np.sort(rng.choice(len(corpus), batch_size, replace=False))
        corners = rng.integers(0, RESOLUTION - CROP + 1, size=(batch_size, 2))
        crops = [corpus.images_NHWC[row, y : y + CROP, x : x + CROP] for row, (y, x) in zip(rows, corners, strict=True)]
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)  # a channels-last view, as AMX likes it
        if rng.random() < 0.3:
            images = images[:, torch.from_numpy(rng.permutation(3))]  # colours beyond the palette: casts may bring their own
        return {"images_BCHW": images}

    torch.manual_seed(5)
    model = build_vae().to(memory_format=torch.channels_last)

    @torch.no_grad()
    def publish(trained: nn.Module, out: Path) -> None:
        rows = np.sort(np.random.default_rng(0).choice(len(corpus), min(512, len(corpus)), replace=False))
        images = torch.from_numpy(corpus.images_NHWC[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = torch.cat([trained.encode(part).latents for part in images.split(64)])
        trained.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))  # unit variance for the U-Net
        trained.save_pretrained(out, safe_serialization=True)

    return Recipe("vae", model, batch, loss, publish, steps=steps, learning_rate=1.5e-3, average=0.998)


def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    images = batch["images_BCHW"].float() / 127.5 - 1
    latents = model.encode(images).latents.float()
    noisy = latents + LATENT_NOISE * torch.randn_like(latents)
    decoded = model.decode(noisy).sample.float()
    error = decoded - images
    edges = sum((error.diff(dim=dim)).abs().mean() for dim in (2, 3))
    blurred = F.avg_pool2d(error, 4).abs().mean()  # large areas keep their colour
    second_moment = latents.square().mean()
    psnr = 10 * torch.log10(4 / error.detach().square().mean())
    total = error.abs().mean() + 2 * error.square().mean() + edges + blurred + LATENT_PENALTY * second_moment
    return total, {"psnr": psnr, "latent_std": second_moment.detach().sqrt()}


@torch.no_grad()
def encode_corpus(vae: nn.Module, corpus: Corpus, path: Path, *, batch_size: int = 64) -> np.ndarray:
    """Latents of the whole corpus, float16 [N, 4, 16, 16], unit variance, written to `path` once.

    `vae.config.scaling_factor` must be set to what makes their variance 1.
    """
    if not path.exists():
        latents = np.empty((len(corpus), 4, 16, 16), np.float16)
        vae = vae.to(memory_format=torch.channels_last)
        for start in range(0, len(corpus), batch_size):
            images = torch.from_numpy(corpus.images_NHWC[start : start + batch_size]).permute(0, 3, 1, 2).float() / 127.5 - 1
            with torch.autocast("cpu", dtype=torch.bfloat16):
                latents[start : start + batch_size] = vae.encode(images).latents.float() * vae.config.scaling_factor
        partial = path.with_suffix(".partial.npy")
        np.save(partial, latents)
        partial.replace(path)
    return np.load(path)
