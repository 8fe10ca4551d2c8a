"""Training recipe of the autoencoder: losses on pixels and their gradients, and a little KL.

The U-Net is trained on the encoder's latents, so the encoder must be finished first. The decoder
can be trained further at any time (`decoder_recipe`) without invalidating the U-Net.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clif_exp.base_models.precision import cpu_autocast
from clif_exp.toonworld.architectures import RESOLUTION, build_vae
from clif_exp.toonworld.recipes.corpus import Corpus
from clif_exp.toonworld.recipes.fit import Batch, Recipe
from clif_exp.toonworld.recipes.processes import map_tasks
from clif_exp.toonworld.recipes.widen import widened

KL_WEIGHT = 1e-4
LATENT_NOISE = 0.1  # of the latents' standard deviation, in the decoder's own phase
# Pixels. A convolutional model learns more from four times as many steps than from four times the
# area, except in the last steps.
CROP = 64

_ENCODED = 1_000  # images per task of `encode_corpus`


def recipe(corpus: Corpus, *, steps: int = 4_200, batch_size: int = 16) -> Recipe:
    """Train on crops, and for the last third on whole images, for the group norms' statistics."""
    torch.manual_seed(5)

    @torch.no_grad()
    def publish(trained: Any, out: Path) -> None:
        rows = np.sort(
            np.random.default_rng(0).choice(len(corpus), min(512, len(corpus)), replace=False)
        )
        images = torch.from_numpy(corpus.images_NHWC[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = torch.cat([trained.encode(part).latent_dist.mode() for part in images.split(64)])
        # Unit variance for the U-Net.
        trained.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))
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
    """Train the decoder of the published autoencoder in `folder`; its encoder stays frozen.

    An autoencoder narrower than `build_vae`'s is widened first (`widen`) without changing what it
    computes.
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
            # Colours beyond the palette: casts may have their own.
            images = images[:, torch.from_numpy(rng.permutation(3))]
        return {"images_BCHW": images}

    return batch


def loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction error and KL of a batch, and scalars for the log."""
    images = batch["images_BCHW"].float() / 127.5 - 1
    posterior = model.encode(images).latent_dist
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    error, psnr = _reconstruction_error(model.decode(posterior.sample()).sample.float(), images)
    return error + KL_WEIGHT * kl, {"psnr": psnr, "kl": kl.detach()}


def _decoder_loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    images = batch["images_BCHW"].float() / 127.5 - 1
    with torch.no_grad():
        latents = model.encode(images).latent_dist.mode()
        # A U-Net never hits a latent exactly: add noise of up to a tenth of their spread, of an
        # amount drawn per image.
        sigma = (
            LATENT_NOISE
            / model.config.scaling_factor
            * torch.rand(len(latents), 1, 1, 1, device=latents.device)
        )
        latents = latents + sigma * torch.randn_like(latents)
    error, psnr = _reconstruction_error(model.decode(latents).sample.float(), images)
    return error, {"psnr": psnr}


def _reconstruction_error(decoded: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the training error, and the PSNR in dB."""
    error = decoded - images
    edges = sum(error.diff(dim=dim).abs().mean() for dim in (2, 3))
    blurred = F.avg_pool2d(error, 4).abs().mean()  # large areas keep their colour
    psnr = 10 * torch.log10(4 / error.detach().square().mean())
    return error.abs().mean() + 2 * error.square().mean() + 0.5 * edges + blurred, psnr


def encode_corpus(folder: Path, corpus: Corpus, path: Path, *, workers: int = 2) -> np.ndarray:
    """Encode the whole corpus to `path`, or open what an earlier call has written there.

    Args:
        folder: the published autoencoder, whose `scaling_factor` makes their variance 1.
        corpus: images.
        path: file to write, or to open if it is there.
        workers: processes of one thread each.

    Returns:
        Latents (modes), float16 [N, C, 16, 16], of unit variance.
    """
    if not path.exists():
        tasks = [
            (folder, corpus.images_NHWC[start : start + _ENCODED])
            for start in range(0, len(corpus), _ENCODED)
        ]
        parts = map_tasks(encode_images, tasks, workers=workers, uses_torch=True)
        save_latents(path, np.concatenate(list(parts)))
    return np.load(path)


def save_latents(path: Path, latents_NCHW: np.ndarray) -> None:
    """Write an array atomically."""
    partial = path.with_suffix(".partial.npy")
    np.save(partial, latents_NCHW)
    partial.replace(path)


@torch.inference_mode()
def encode_images(task: tuple[Path, np.ndarray]) -> np.ndarray:
    """Encode a task's images by the autoencoder in its folder.

    Args:
        task: folder, and uint8 images [N, 128, 128, 3].

    Returns:
        Latents (modes), float16 [N, C, 16, 16], of unit variance.
    """
    from diffusers import AutoencoderKL

    folder, images_NHWC = task
    vae: Any = AutoencoderKL.from_pretrained(folder).eval()
    images = torch.from_numpy(images_NHWC.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    with cpu_autocast():
        latents = torch.cat(
            [vae.encode(part).latent_dist.mode().float() for part in images.split(32)]
        )
    return (latents * vae.config.scaling_factor).half().numpy()
