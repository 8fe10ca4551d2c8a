"""Training recipe of the oracle: focal loss on figure centres, L1 on boxes, cross-entropy per slot.

Its images (`oracle_examples`) are drawn for it alone, with every attribute that a cast may have,
then blurred, made noisy and passed through the autoencoder. A head that is discarded afterwards
classifies every place half-way up (`places`), so that the rest has objects to gather, not pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clif_exp.base_models.precision import cpu_autocast
from clif_exp.toonworld.architectures import RESOLUTION
from clif_exp.toonworld.oracle import ANSWERS, STRIDE, Oracle, build_oracle, write_oracle
from clif_exp.toonworld.recipes import places
from clif_exp.toonworld.recipes.fit import Batch, Recipe
from clif_exp.toonworld.recipes.oracle_examples import SEED, draw_example, render_examples

PLACES_WEIGHT = 0.5
CALIBRATION = 512  # examples
_MAP = RESOLUTION // STRIDE
_FIRST_OF_STRIDE_8 = 4  # place in the oracle's body


class _WithPlaces(nn.Module):
    def __init__(self, oracle: Oracle):
        super().__init__()
        self.oracle = oracle
        self.reader = nn.Conv2d(oracle.hyperparameters["width"], places.ANSWERS, 1)

    def forward(self, images_BCHW: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return the oracle's maps, and logits per question of `places.CLASSES` half-way up."""
        return places.read(
            lambda: self.oracle(images_BCHW),
            layer=self.oracle.body[_FIRST_OF_STRIDE_8],
            reader=self.reader,
        )


def recipe(
    folder: Path, *, scenes: int, vae_folder: Path, steps: int = 8_000, batch_size: int = 32
) -> Recipe:
    """Train the oracle.

    Args:
        folder: where the examples are drawn, or were drawn by an earlier call.
        scenes: number of examples.
        vae_folder: the published autoencoder, whose artefacts the oracle must bear.
        steps: optimiser steps.
        batch_size: examples per step.
    """
    from diffusers import AutoencoderKL

    data = render_examples(folder, size=scenes)
    vae = AutoencoderKL.from_pretrained(vae_folder).eval().requires_grad_(False)
    torch.manual_seed(11)

    def batch(step: int) -> Batch:
        rng = np.random.default_rng([8, step])
        rows = np.sort(rng.choice(len(data["images"]), batch_size, replace=False))
        images = torch.from_numpy(data["images"][rows]).permute(0, 3, 1, 2).float() / 255
        boxes, cells = (
            torch.from_numpy(data["boxes"][rows]),
            torch.from_numpy(data["places"][rows]).long(),
        )
        _mirror(images, boxes, cells, rows=torch.from_numpy(rng.random(batch_size) < 0.5))
        return {
            "images_BCHW": _degrade(images, vae, torch.Generator().manual_seed(step)),
            "boxes_BF4": boxes,
            "answers_BFS": torch.from_numpy(data["answers"][rows]),
            "places_BQHW": cells,
        }

    def publish(trained: Any, out: Path) -> None:
        calibrate(trained.oracle, vae, count=min(CALIBRATION, scenes))
        write_oracle(out, oracle=trained.oracle)

    model = _WithPlaces(build_oracle().to(memory_format=torch.channels_last))
    return Recipe(
        "oracle",
        model,
        batch,
        loss,
        publish,
        steps=steps,
        learning_rate=2e-3,
        average=0.998,
        weight_decay=0.05,
        core="oracle",
    )


def _mirror(images_BCHW: Tensor, boxes_BF4: Tensor, cells_BQHW: Tensor, *, rows: Tensor) -> None:
    """Mirror some of a batch's examples in place; no answer depends on the side."""
    left, top, right, bottom = boxes_BF4[rows].unbind(-1)
    boxes_BF4[rows] = torch.stack([RESOLUTION - right, top, RESOLUTION - left, bottom], dim=-1)
    images_BCHW[rows] = images_BCHW[rows].flip(3)
    cells_BQHW[rows] = cells_BQHW[rows].flip(3)


@torch.no_grad()
def calibrate(model: Any, vae: Any, *, count: int = CALIBRATION) -> None:
    """Set the temperature of each slot that is best on fresh examples (Guo et al. 2017).

    Args:
        model: an `Oracle`; its `temperature` is set to the one of least cross-entropy per slot.
        vae: autoencoder that degrades the images.
        count: number of examples.
    """
    examples = [draw_example(SEED + 1, index) for index in range(count)]
    images = (
        torch.from_numpy(np.stack([example.images for example in examples]))
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )
    images = _degrade(images, vae, torch.Generator().manual_seed(0))
    parts = [model(part) for part in images.split(64)]
    maps = {key: torch.cat([part[key] for part in parts]).float() for key in parts[0]}
    boxes = torch.from_numpy(np.stack([example.boxes for example in examples]))
    answers = torch.from_numpy(np.stack([example.answers for example in examples]))
    b, figure = (~boxes[..., 0].isnan()).nonzero().T
    centre = (boxes[b, figure, :2] + boxes[b, figure, 2:]) / 2 / STRIDE
    x, y = centre.long().clamp(0, _MAP - 1).T
    temperatures = torch.from_numpy(np.geomspace(0.25, 4.0, 81)).float()
    for index, slot in enumerate(ANSWERS):
        logits, target = maps[slot][b, :, y, x], answers[b, figure, index]
        losses = torch.stack(
            [F.cross_entropy(logits / temperature, target) for temperature in temperatures]
        )
        model.temperature[index] = temperatures[losses.argmin()]


@torch.no_grad()
def _degrade(images_BCHW: Tensor, vae: Any, generator: torch.Generator) -> Tensor:
    """Degrade a quarter of the images each by autoencoder and noisy latents, blur, and noise.

    As generation does. The quarters overlap; values are clamped to [0, 1].
    """
    images = images_BCHW.contiguous(memory_format=torch.channels_last)
    quarter = len(images) // 4
    order = torch.randperm(len(images), generator=generator)
    through, blurred, noisy = (
        order[:quarter],
        order[quarter // 2 : quarter + quarter // 2],
        order[-quarter:],
    )
    with cpu_autocast():
        latents = vae.encode(images[through] * 2 - 1).latent_dist.mode().float()
        sigma = 0.3 * latents.std() * torch.rand(quarter, 1, 1, 1, generator=generator)
        decoded = vae.decode(
            latents + sigma * torch.randn(latents.shape, generator=generator)
        ).sample.float()
    images[through] = decoded / 2 + 0.5
    share = torch.rand(len(blurred), 1, 1, 1, generator=generator)
    soft = F.avg_pool2d(F.pad(images[blurred], (1, 1, 1, 1), mode="replicate"), 3, 1)
    images[blurred] = share * soft + (1 - share) * images[blurred]
    sigma = 0.06 * torch.rand(len(noisy), 1, 1, 1, generator=generator)
    images[noisy] += sigma * torch.randn(images[noisy].shape, generator=generator)
    return images.clamp(0, 1)


def loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Focal, box, slot and place losses of a batch, summed, and scalars for the log."""
    found, logits_of_places = model(batch["images_BCHW"])
    maps = {key: value.float() for key, value in found.items()}
    boxes, answers = batch["boxes_BF4"], batch["answers_BFS"]
    heat, owner = _heat(boxes)
    figures = (~boxes[..., 0].isnan()).sum()
    focal = _focal(maps["centre"], heat) / figures.clamp(min=1)

    # Attributes and boxes are read at the centre and right beside it.
    b, y, x = (heat > 0.5).nonzero().T
    figure = owner[b, y, x]
    box = boxes[b, figure] / STRIDE
    cell = torch.stack([x + 0.5, y + 0.5, x + 0.5, y + 0.5], dim=1)
    sides = (box - cell) * torch.tensor([-1.0, -1.0, 1.0, 1.0])
    regression = F.l1_loss(maps["box"][b, :, y, x], sides.clamp(min=0))
    losses, correct = [], []
    for index, slot in enumerate(ANSWERS):
        logits, target = maps[slot][b, :, y, x], answers[b, figure, index]
        losses.append(F.cross_entropy(logits, target))
        correct.append((logits.argmax(1) == target).float().mean())
    where = torch.stack(
        [
            F.cross_entropy(logits, batch["places_BQHW"][:, i], ignore_index=places.IGNORED)
            for i, logits in enumerate(logits_of_places)
        ]
    ).mean()
    total = focal + 0.1 * regression + torch.stack(losses).mean() + PLACES_WEIGHT * where
    return total, {
        "focal": focal.detach(),
        "box": regression.detach(),
        "where": where.detach(),
        "right": torch.stack(correct).mean(),
        "species": correct[0],
    }


def _heat(boxes_BF4: Tensor) -> tuple[Tensor, Tensor]:
    """Target of the heat map, float [B, H, W] in [0, 1]; each cell's figure, int64 [B, H, W]."""
    present = ~boxes_BF4[..., 0].isnan()
    left, top, right, bottom = boxes_BF4.unbind(-1)
    centres = torch.stack([left + right, top + bottom], dim=-1) / 2 / STRIDE
    grid = torch.arange(_MAP) + 0.5
    # Squared distance, in cells, of every cell to every figure's centre, [B, F, H, W].
    distance = (grid - centres[..., :1, None]).square() + (
        grid[:, None] - centres[..., 1:, None]
    ).square()
    distance = distance.nan_to_num(1e9)
    nearest, owner = distance.min(dim=1)
    heat = (-nearest / (2 * 0.8**2)).exp()
    # The cell that holds a centre is the positive one, even where the Gaussian is a little below 1.
    peak = (distance == distance.flatten(2).amin(2)[..., None, None]) & present[..., None, None]
    return torch.where(peak.any(1), torch.ones_like(heat), heat), owner


def _focal(logits: Tensor, heat: Tensor) -> Tensor:
    """CenterNet's penalty-reduced focal loss (Law and Deng 2018, Eq. 1), summed over the map."""
    share = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    positive = heat == 1
    on = -((1 - share) ** 2) * share.log() * positive
    off = -((1 - heat) ** 4) * share**2 * (1 - share).log() * ~positive
    return (on + off).sum()
