"""The autoencoder: L1 and L2 in pixels, L1 in their gradients, and a little KL; then its decoder
alone.

The encoder is what the U-Net is trained on, so it must stop first. The decoder goes on beside the
U-Net's training: it costs nothing of what the U-Net has learnt.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clif_exp.artifacts.files import whole_file
from clif_exp.base_models.precision import cpu_autocast
from clif_exp.toonworld.architectures import RESOLUTION, build_vae
from clif_exp.toonworld.recipes.corpus import Corpus
from clif_exp.toonworld.recipes.fit import Batch, Recipe
from clif_exp.toonworld.recipes.widen import widened

KL_WEIGHT = 1e-4
LATENT_NOISE = 0.1  # of the latents' standard deviation, in the decoder's own phase
# pixels: four times as many steps teach a convolutional model more than four times the surface,
# until the last ones
CROP = 64

_ENCODED = 1_000  # images per task of `encode_corpus`


def recipe(corpus: Corpus, *, steps: int = 4_200, batch_size: int = 16) -> Recipe:
    """Crops at first; whole images for the last third, since group norms see the whole of what
    they are given.
    """
    torch.manual_seed(5)

    @torch.no_grad()
    def publish(trained: Any, out: Path) -> None:
        rows = np.sort(
            np.random.default_rng(0).choice(len(corpus), min(512, len(corpus)), replace=False)
        )
        images = torch.from_numpy(corpus.images_NHWC[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = torch.cat([trained.encode(part).latent_dist.mode() for part in images.split(64)])
        trained.register_to_config(
            scaling_factor=round(1 / float(latents.std()), 4)
        )  # unit variance for the U-Net
        trained.save_pretrained(out, safe_serialization=True)

    batch = _batches(corpus, seed=1, steps=steps, batch_size=batch_size)
    return Recipe(
        "vae",
        build_vae(),
        batch,
        loss,
        publish,
        steps=steps,
        learning_rate=3e-3,
        adamw_learning_rate=1.5e-3,
        average=0.998,
    )


def decoder_recipe(
    corpus: Corpus, *, folder: Path, steps: int = 4_200, batch_size: int = 16
) -> Recipe:
    """The decoder of the published autoencoder in `folder`; its encoder goes on to say what it says
    now.

    An autoencoder narrower than `build_vae`'s is widened first (`widen`), its encoder so that
    nothing changes.
    """
    from diffusers import AutoencoderKL

    model: Any = build_vae()
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    published: Any = AutoencoderKL.from_pretrained(folder)
    model.load_state_dict(widened(published.state_dict(), model))
    model.register_to_config(scaling_factor=published.config.scaling_factor)
    batch = _batches(corpus, seed=11, steps=steps, batch_size=batch_size)

    def publish(trained: Any, out: Path) -> None:
        trained.save_pretrained(out, safe_serialization=True)

    return Recipe(
        "vae_decoder",
        model,
        batch,
        _decoder_loss,
        publish,
        steps=steps,
        learning_rate=2e-3,
        average=0.998,
    )


def _batches(corpus: Corpus, *, seed: int, steps: int, batch_size: int) -> Callable[[int], Batch]:
    def batch(step: int) -> Batch:
        rng = np.random.default_rng([seed, step])
        crop, count = (CROP, batch_size) if step < 0.67 * steps else (RESOLUTION, batch_size // 4)
        rows = np.sort(rng.choice(len(corpus), count, replace=False))
        corners = rng.integers(0, RESOLUTION - crop + 1, size=(count, 2))
        crops = [
            corpus.images_NHWC[row, y : y + crop, x : x + crop]
            for row, (y, x) in zip(rows, corners, strict=True)
        ]
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
        if rng.random() < 0.3:
            images = images[
                :, torch.from_numpy(rng.permutation(3))
            ]  # colours beyond the palette: casts may bring their own
        return {"images_BCHW": images}

    return batch


def loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    images = batch["images_BCHW"].float() / 127.5 - 1
    posterior = model.encode(images).latent_dist
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    error, psnr = _reconstruction_error(model.decode(posterior.sample()).sample.float(), images)
    return error + KL_WEIGHT * kl, {"psnr": psnr, "kl": kl.detach()}


def _decoder_loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    images = batch["images_BCHW"].float() / 127.5 - 1
    with torch.no_grad():
        latents = model.encode(images).latent_dist.mode()
        # A U-Net never hits a latent exactly: noise of up to a tenth of their spread, another
        # amount for each image.
        sigma = (
            LATENT_NOISE
            / model.config.scaling_factor
            * torch.rand(len(latents), 1, 1, 1, device=latents.device)
        )
        latents = latents + sigma * torch.randn_like(latents)
    error, psnr = _reconstruction_error(model.decode(latents).sample.float(), images)
    return error, {"psnr": psnr}


def _reconstruction_error(decoded: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The training error, and the PSNR in dB."""
    error = decoded - images
    edges = sum(error.diff(dim=dim).abs().mean() for dim in (2, 3))
    blurred = F.avg_pool2d(error, 4).abs().mean()  # large areas keep their colour
    psnr = 10 * torch.log10(4 / error.detach().square().mean())
    return error.abs().mean() + 2 * error.square().mean() + 0.5 * edges + blurred, psnr


def encode_corpus(folder: Path, corpus: Corpus, path: Path, *, workers: int = 2) -> np.ndarray:
    """Latents (modes) of the whole corpus, float16 [N, C, 16, 16], unit variance, written to `path`
    once.

    Args:
        folder: the published autoencoder, whose `scaling_factor` makes their variance 1.
        corpus: images.
        path: file to write, or to open if it is there.
        workers: processes of one thread each.
    """
    if not path.exists():
        starts = range(0, len(corpus), _ENCODED)
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            parts = pool.map(
                encode_images,
                repeat(folder),
                (corpus.images_NHWC[start : start + _ENCODED] for start in starts),
            )
            save_latents(path, np.concatenate(list(parts)))
    return np.load(path)


def save_latents(path: Path, latents_NCHW: np.ndarray) -> None:
    """Write an array so that a file of this name is always whole."""
    with whole_file(path) as partial, partial.open("wb") as stream:
        np.save(stream, latents_NCHW)


@torch.inference_mode()
def encode_images(folder: Path, images_NHWC: np.ndarray) -> np.ndarray:
    """Latents of uint8 images [N, 128, 128, 3], float16 [N, C, 16, 16], by a worker process of
    one thread.
    """
    torch.set_num_threads(1)
    vae = _load(folder)
    images = torch.from_numpy(images_NHWC.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    with cpu_autocast():
        latents = torch.cat(
            [vae.encode(part).latent_dist.mode().float() for part in images.split(32)]
        )
    return (latents * vae.config.scaling_factor).half().numpy()


@cache
def _load(folder: Path) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(folder).eval()
