"""Training recipe of the small SAM.

The three masks of a point are the part, the whole figure, and everything drawn; a box's mask is the
figure. The losses are SAM's own (Kirillov et al. 2023): focal + dice on the masks and a squared
error on the predicted IoU. Each output has a fixed target instead of the one of smallest loss,
because the drawn world knows which is which.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clif_exp.base_models.sam import build_small_sam
from clif_exp.toonworld.architectures import RESOLUTION, write_sam
from clif_exp.toonworld.recipes.corpus import Corpus
from clif_exp.toonworld.recipes.fit import Batch, Recipe

PROMPTS = 8  # per image, which is encoded once for all of them
PART_WEIGHT = 3.0  # parts take far longer to learn than figures


def _prompts(
    labels_HW: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw prompts for a label map.

    Returns:
        Points (x, y), float [P, 2]; boxes around the figure at each point, float [P, 4]; masks of
        part, figure and everything, bool [P, 3, H, W].
    """
    points, boxes, masks = [], [], []
    parts = np.unique(labels_HW)
    parts = parts[(parts > 0) & (np.bincount(labels_HW.ravel(), minlength=256)[parts] >= 12)]
    figure_of = np.where(labels_HW > 0, (labels_HW.astype(np.int16) - 1) // 16, -1)
    for _ in range(PROMPTS):
        label = rng.choice(parts)
        ys, xs = np.nonzero(labels_HW == label)
        pick = rng.integers(len(ys))
        figure = figure_of == (int(label) - 1) // 16
        fy, fx = np.nonzero(figure)
        jitter = rng.normal(0, 2, 4)
        points.append((xs[pick] + 0.5, ys[pick] + 0.5))
        boxes.append(
            np.clip(
                np.array([fx.min(), fy.min(), fx.max() + 1, fy.max() + 1]) + jitter, 0, RESOLUTION
            )
        )
        masks.append(np.stack([labels_HW == label, figure, labels_HW > 0]))
    return np.array(points), np.array(boxes), np.stack(masks)


def recipe(corpus: Corpus, *, steps: int = 3_000, batch_size: int = 8) -> Recipe:
    """Train the SAM on points, and on boxes in every fourth step."""
    torch.manual_seed(7)

    def batch(step: int) -> Batch:
        rng = np.random.default_rng([6, step])
        rows = np.sort(rng.choice(len(corpus), batch_size, replace=False))
        points, boxes, masks = zip(
            *(_prompts(corpus.labels_NHW[row], rng) for row in rows), strict=True
        )
        return {
            "images_BCHW": torch.from_numpy(corpus.images_NHWC[rows]).permute(0, 3, 1, 2),
            "points_BP2": torch.from_numpy(np.stack(points)).float(),
            "boxes_BP4": torch.from_numpy(np.stack(boxes)).float(),
            "masks_BP3HW": torch.from_numpy(np.stack(masks)),
            "use_boxes": bool(step % 4 == 3),
        }

    return Recipe(
        "sam",
        build_small_sam(resolution=RESOLUTION).train(),
        batch,
        loss,
        lambda model, out: write_sam(out, sam=model),
        steps=steps,
        learning_rate=2e-3,
        average=0.998,
        weight_decay=0.05,
    )


def loss(sam: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Mask and IoU losses of a batch, and the IoU of each output for the log."""
    images = (batch["images_BCHW"].float() - sam.pixel_mean) / sam.pixel_std
    embeddings = sam.image_encoder(images)
    positions = sam.prompt_encoder.get_dense_pe()
    logits, qualities = [], []
    for embedding, points, boxes in zip(
        embeddings, batch["points_BP2"], batch["boxes_BP4"], strict=True
    ):
        prompt = (
            {"points": None, "boxes": boxes}
            if batch["use_boxes"]
            else {"points": (points[:, None], torch.ones(len(points), 1)), "boxes": None}
        )
        sparse, dense = sam.prompt_encoder(masks=None, **prompt)
        masks, quality = sam.mask_decoder.predict_masks(embedding[None], positions, sparse, dense)
        logits.append(masks)
        qualities.append(quality)
    truth = batch["masks_BP3HW"].flatten(0, 1).float()
    if batch["use_boxes"]:
        chosen, truth = slice(0, 1), truth[:, 1:2]  # the single-mask output is the figure
    else:
        chosen, truth = slice(0, 4), torch.cat([truth[:, 1:2], truth], dim=1)
    logits_NMHW = torch.cat(logits)[:, chosen].float()
    with torch.no_grad():
        shown = (
            F.interpolate(logits_NMHW, size=(RESOLUTION,) * 2, mode="bilinear", align_corners=False)
            > 0
        )
        iou = (shown & (truth > 0)).sum((2, 3)) / (shown | (truth > 0)).sum((2, 3)).clamp(min=1)
    quality = F.mse_loss(torch.cat(qualities)[:, chosen].float(), iou)
    # At the decoder's own resolution, for a quarter of the work: the target is each cell's covered
    # share.
    share = F.avg_pool2d(truth, RESOLUTION // logits_NMHW.shape[-1])
    names = ("figure",) if batch["use_boxes"] else ("figure", "part", "whole", "all")
    weight_M = torch.tensor([PART_WEIGHT if name == "part" else 1.0 for name in names])
    total = (
        (_focal(logits_NMHW, share) + _dice(logits_NMHW, share)).mean(0) * weight_M
    ).sum() / weight_M.sum() + quality
    return total, {f"iou_{name}": value for name, value in zip(names, iou.mean(0), strict=True)}


def _focal(logits_NMHW: Tensor, truth_NMHW: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss per mask, divided by the mask's area (Lin et al. 2017, Sec. 3.3), float [N, M].

    Averaged over the image instead, as in SAM, parts of 1 % of it were never found.
    """
    from torchvision.ops import sigmoid_focal_loss

    loss = sigmoid_focal_loss(
        logits_NMHW, truth_NMHW, alpha=0.5, gamma=gamma, reduction="none"
    ).sum((2, 3))
    return loss / truth_NMHW.sum((2, 3)).clamp(min=4)


def _dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Dice loss per mask, float [N, M]."""
    shares = logits.sigmoid().flatten(2)
    truth = truth.flatten(2)
    return 1 - (2 * (shares * truth).sum(2) + 1) / (shares.sum(2) + truth.sum(2) + 1)
