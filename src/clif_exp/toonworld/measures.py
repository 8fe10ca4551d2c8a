"""What ToonWorld's oracle, autoencoder and SAM achieve, on scenes that no recipe has drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clif_exp.toonworld.architectures import RESOLUTION
from clif_exp.toonworld.drawing.render import Rendering, render
from clif_exp.toonworld.grammar import truth
from clif_exp.toonworld.oracle import AMBIGUOUS, ANSWERS, NOT_VISIBLE, FigureReading, Oracle
from clif_exp.toonworld.recipes.oracle_examples import draw_example
from clif_exp.toonworld.scenes import sample_scene
from clif_exp.toonworld.world import SLOTS, Scene

HELD_OUT_SEED = 77_000  # no recipe uses it
Row = dict[str, float]


def held_out(
    count: int,
    *,
    kinds: Sequence[str | None] = (None,),
    allow_cast_only: bool = False,
    seed: int = 0,
) -> list[Scene]:
    """Draw scenes that no recipe draws, the kinds in turn."""
    return [
        sample_scene(
            np.random.default_rng([HELD_OUT_SEED + seed, i]),
            kind=kinds[i % len(kinds)],
            allow_cast_only=allow_cast_only,
        )
        for i in range(count)
    ]


def as_tensor(renderings: Sequence[Rendering]) -> Tensor:
    """Stack images as float [N, 3, 128, 128] in [0, 1]."""
    return (
        torch.from_numpy(np.stack([rendering.image for rendering in renderings]))
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )


def match_by_place(
    readings: list[FigureReading], boxes: Sequence[tuple | None]
) -> list[FigureReading | None]:
    """Match to each true box the nearest reading within half the box's size, or None."""
    matched: list[FigureReading | None] = []
    for box in boxes:
        best, best_distance = None, np.inf
        if box is None:
            matched.append(None)
            continue
        for reading in readings:
            dx = abs(reading.box[0] + reading.box[2] - box[0] - box[2]) / (box[2] - box[0])
            dy = abs(reading.box[1] + reading.box[3] - box[1] - box[3]) / (box[3] - box[1])
            if max(dx, dy) < 1 and dx + dy < best_distance:
                best, best_distance = reading, dx + dy
        matched.append(best)
    return matched


def oracle_accuracy(
    oracle: Oracle, images_BCHW: Tensor, scenes: Sequence[Scene], renderings: Sequence[Rendering]
) -> Row:
    """Shares of correct species, attributes and numbers of figures."""
    right: dict[str, list[bool]] = defaultdict(list)
    for readings, scene, rendering in zip(
        oracle.read(images_BCHW), scenes, renderings, strict=True
    ):
        right["figures"].append(len(readings) == len(scene.figures))
        expected = truth(scene, rendering)
        for reading, attributes in zip(
            match_by_place(readings, rendering.boxes[: len(expected)]), expected, strict=True
        ):
            for slot in SLOTS:
                name = "species" if slot == "species" else "attributes"
                right[name].append(
                    reading is not None and reading.attributes[slot] == attributes[slot]
                )
    return {name: float(np.mean(answers)) for name, answers in right.items()}


def oracle_row(oracle: Oracle, vae: Any, *, count: int) -> Row:
    """Measure the oracle on clean and degraded scenes, and on blends and erasures."""
    scenes = held_out(
        count, kinds=("single", "pair", "pair", "pair_white", "row"), allow_cast_only=True
    )
    renderings = [render(scene, size=RESOLUTION) for scene in scenes]
    clean = as_tensor(renderings)
    variants = {
        "clean": clean,
        "after_vae": reconstruct(vae, clean),
        "blurred": (
            F.avg_pool2d(F.pad(clean, (1, 1, 1, 1), mode="replicate"), 3, 1) * 0.5 + clean * 0.5
        ),
        "noisy": (
            (
                clean + 0.03 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
            ).clamp(0, 1)
        ),
    }
    row: Row = {}
    for name, images in variants.items():
        row |= {
            f"{name}/{key}": value
            for key, value in oracle_accuracy(oracle, images, scenes, renderings).items()
        }
    row["calibration_error"] = _calibration_error(oracle, clean, scenes, renderings)
    return row | _doubts(oracle, count=3 * count)


def _calibration_error(
    oracle: Oracle,
    images: Tensor,
    scenes: Sequence[Scene],
    renderings: Sequence[Rendering],
    *,
    bins: int = 10,
) -> float:
    """Expected calibration error of the answers: mean gap between confidence and accuracy.

    Guo et al. 2017, Eq. 3.
    """
    sure, right = [], []
    for readings, scene, rendering in zip(oracle.read(images), scenes, renderings, strict=True):
        expected = truth(scene, rendering)
        for reading, attributes in zip(
            match_by_place(readings, rendering.boxes[: len(expected)]), expected, strict=True
        ):
            if reading is None:
                continue
            for slot in SLOTS:
                answer = reading.attributes[slot]
                sure.append(reading.probabilities[slot][answer])
                right.append(answer == attributes[slot])
    confidence, correct = np.array(sure), np.array(right, float)
    of_bin = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[of_bin == b].sum() - correct[of_bin == b].sum()) for b in range(bins)]
    return float(sum(gaps) / max(1, len(confidence)))


def _doubts(oracle: Oracle, *, count: int) -> Row:
    """Recall of `ambiguous` and `not visible`, and share of clear slots that get such an answer."""
    examples = [draw_example(HELD_OUT_SEED, index) for index in range(count)]
    images = (
        torch.from_numpy(np.stack([example.images for example in examples]))
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )
    answered: dict[str, list[bool]] = defaultdict(list)
    for readings, (_, boxes, answers, _) in zip(oracle.read(images), examples, strict=True):
        present = ~np.isnan(boxes[:, 0])
        for reading, indices in zip(
            match_by_place(readings, boxes[present].tolist()), answers[present], strict=True
        ):
            for (slot, values), index in zip(ANSWERS.items(), indices, strict=True):
                answer = reading.attributes[slot] if reading is not None else ""
                if values[index] in (AMBIGUOUS, NOT_VISIBLE):
                    answered[f"says {values[index]}"].append(answer == values[index])
                else:
                    answered["false doubts"].append(answer in (AMBIGUOUS, NOT_VISIBLE))
    return {f"doubts/{key}": float(np.mean(value)) for key, value in answered.items()}


@torch.no_grad()
def reconstruct(vae: Any, images_BCHW: Tensor) -> Tensor:
    """Encode and decode images, values in [0, 1]."""
    return torch.cat(
        [
            (vae.decode(vae.encode(part * 2 - 1).latent_dist.mode()).sample / 2 + 0.5).clamp(0, 1)
            for part in images_BCHW.split(32)
        ]
    )


def vae_row(vae: Any, oracle: Oracle, *, count: int) -> Row:
    """Measure the PSNR in dB per style, and the oracle's loss of accuracy on reconstructions."""
    scenes = held_out(count, kinds=("single", "pair", "pair_white"), allow_cast_only=True, seed=1)
    renderings = [render(scene, size=RESOLUTION) for scene in scenes]
    clean = as_tensor(renderings)
    decoded = reconstruct(vae, clean)
    psnr = -10 * torch.log10((decoded - clean).square().mean(dim=(1, 2, 3)))
    row = {"psnr": float(psnr.mean())}
    for style in ("flat", "shaded", "textured"):
        row[f"psnr/{style}"] = float(psnr[[scene.style == style for scene in scenes]].mean())
    before, after = (
        oracle_accuracy(oracle, images, scenes, renderings)["attributes"]
        for images in (clean, decoded)
    )
    return row | {"attributes_lost": before - after}


@torch.no_grad()
def sam_row(sam: Any, *, count: int) -> Row:
    """Measure the mean IoU of figures and parts from one point at their inside."""
    from scipy import ndimage

    scores: dict[str, list[float]] = defaultdict(list)
    for scene in held_out(count, kinds=("single", "pair", "pair_white"), seed=4):
        rendering = render(scene, size=RESOLUTION)
        pixels = torch.from_numpy(rendering.image.copy()).permute(2, 0, 1)[None].float()
        embedding = sam.image_encoder(sam.preprocess(pixels[0])[None])
        labels = rendering.labels
        figures = np.where(labels > 0, (labels.astype(int) - 1) // 16, -1)
        targets = [("part", labels == label, 1) for label in np.unique(labels[labels > 0])]
        targets += [("figure", figures == index, 2) for index in range(len(scene.figures))]
        targets = [target for target in targets if target[1].mean() > 0.01]
        inside = [
            np.unravel_index(ndimage.distance_transform_edt(mask).argmax(), mask.shape)
            for _, mask, _ in targets
        ]
        points = torch.tensor([[[x + 0.5, y + 0.5]] for y, x in inside]).float()
        sparse, dense = sam.prompt_encoder(
            points=(points, torch.ones(len(points), 1)), boxes=None, masks=None
        )
        logits, _ = sam.mask_decoder.predict_masks(
            embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense
        )
        shown = (F.interpolate(logits, size=(RESOLUTION,) * 2, mode="bilinear") > 0).numpy()
        for (name, mask, token), drawn in zip(targets, shown, strict=True):
            best = max(
                (drawn[t] & mask).sum() / (drawn[t] | mask).sum()
                for t in ([token] if name == "part" else (0, token))
            )
            scores[name].append(float(best))
    return {f"iou/{name}": float(np.mean(values)) for name, values in scores.items()}


def sam_coverage(sam: Any, *, count: int, iou: float = 0.5) -> float:
    """Share of the parts above 1 % of an image that an automatic mask covers with that IoU."""
    from clif_exp.curation.segmenters.sam import SamSegmenter

    # The thresholds of conf/segmenter/sam_toonworld.yaml.
    segmenter = SamSegmenter(
        sam,
        points_per_side=16,
        points_per_batch=None,
        images_per_batch=8,
        iou_threshold=0.4,
        stability_threshold=0.3,
        stability_offset=1.0,
        nms_threshold=0.85,
        mixed_precision=False,
    )
    found = []
    scenes = held_out(count, kinds=("single", "pair", "pair_white"), seed=8)
    renderings = [render(scene, size=RESOLUTION) for scene in scenes]
    for proposals, rendering in zip(
        segmenter.propose([rendering.image for rendering in renderings]), renderings, strict=True
    ):
        for label in np.unique(rendering.labels[rendering.labels > 0]):
            part = rendering.labels == label
            if part.mean() > 0.01:
                found.append(
                    max(
                        ((mask & part).sum() / (mask | part).sum() for mask in proposals.masks_NHW),
                        default=0.0,
                    )
                    >= iou
                )
    return float(np.mean(found))
