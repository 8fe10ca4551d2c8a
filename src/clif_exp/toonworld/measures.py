"""What ToonWorld's oracle, autoencoder, CLIPs and SAM can and cannot do, on scenes that no recipe
has drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clif_exp.concepts.images import on_white
from clif_exp.toonworld.architectures import RESOLUTION
from clif_exp.toonworld.cast import cast, held_out_scenes, reference_scenes
from clif_exp.toonworld.drawing.render import Rendering, render
from clif_exp.toonworld.grammar import caption, full_caption, truth
from clif_exp.toonworld.oracle import AMBIGUOUS, NOT_VISIBLE, FigureReading, Oracle
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
    """Scenes that no recipe draws, the kinds taken in turn."""
    return [
        sample_scene(
            np.random.default_rng([HELD_OUT_SEED + seed, i]),
            kind=kinds[i % len(kinds)],
            allow_cast_only=allow_cast_only,
        )
        for i in range(count)
    ]


def as_tensor(renderings: Sequence[Rendering]) -> Tensor:
    """Images as float [N, 3, 128, 128] in [0, 1]."""
    return (
        torch.from_numpy(np.stack([rendering.image for rendering in renderings]))
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )


def match_by_place(
    readings: list[FigureReading], boxes: Sequence[tuple | None]
) -> list[FigureReading | None]:
    """For each true box the reading whose centre is nearest, within half the box's size; None if
    there is none.
    """
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
    """Shares of right answers: per slot group, and of images with the right number of figures."""
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


def oracle_row(oracle: Oracle, vae, *, count: int) -> Row:
    """The oracle on clean, reconstructed, blurred and noisy scenes with cast-only features, and on
    blends and erasures.
    """
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
    """Expected calibration error of the answers (Guo et al.

    2017, Eq. 3): mean gap between confidence and being right.
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
    """Recall of `ambiguous` and `not visible` on blends and erasures, and how often they are said
    of what is plain to see.
    """
    from clif_exp.toonworld.oracle import ANSWERS

    examples = [draw_example(HELD_OUT_SEED, index) for index in range(count)]
    images = (
        torch.from_numpy(np.stack([example.images for example in examples]))
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )
    said: dict[str, list[bool]] = defaultdict(list)
    for readings, (_, boxes, answers, _) in zip(oracle.read(images), examples, strict=True):
        present = ~np.isnan(boxes[:, 0])
        for reading, indices in zip(
            match_by_place(readings, boxes[present].tolist()), answers[present], strict=True
        ):
            for (slot, values), index in zip(ANSWERS.items(), indices, strict=True):
                answer = reading.attributes[slot] if reading is not None else ""
                if values[index] in (AMBIGUOUS, NOT_VISIBLE):
                    said[f"says {values[index]}"].append(answer == values[index])
                else:
                    said["false doubts"].append(answer in (AMBIGUOUS, NOT_VISIBLE))
    return {f"doubts/{key}": float(np.mean(value)) for key, value in said.items()}


@torch.no_grad()
def reconstruct(vae, images_BCHW: Tensor) -> Tensor:
    """Through the autoencoder and back, values in [0, 1]."""
    return torch.cat(
        [
            (vae.decode(vae.encode(part * 2 - 1).latent_dist.mode()).sample / 2 + 0.5).clamp(0, 1)
            for part in images_BCHW.split(32)
        ]
    )


def vae_row(vae, oracle: Oracle, *, count: int) -> Row:
    """PSNR in dB per style, and what the oracle loses on reconstructions."""
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
def clip_row(folder: Path, *, cast_seed: int, groups: int) -> Row:
    """Top-1 among 64 scenes with full captions both ways, told-apart swaps, and nearest neighbours
    of an unseen cast.
    """
    from transformers import CLIPModel, CLIPTokenizer

    model: Any = CLIPModel.from_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)

    def image_features(images: Tensor) -> Tensor:
        size = model.config.vision_config.image_size
        pixels = F.interpolate(images, size=(size, size), mode="area") * 2 - 1
        return F.normalize(
            model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output), dim=-1
        )

    def texts(captions: list[str]) -> Tensor:
        tokens = tokenizer(captions, padding=True, return_tensors="pt")
        return F.normalize(model.text_projection(model.text_model(**tokens).pooler_output), dim=-1)

    scenes = held_out(64 * groups, seed=2)
    image_ND = image_features(as_tensor([render(scene, size=RESOLUTION) for scene in scenes]))
    full_ND, partial_ND = (
        texts([full_caption(s) for s in scenes]),
        texts([caption(s, np.random.default_rng(i)) for i, s in enumerate(scenes)]),
    )
    row: Row = defaultdict(float)
    for group in range(groups):
        here = slice(64 * group, 64 * (group + 1))
        labels = torch.arange(64)
        similarity = image_ND[here] @ full_ND[here].T
        row["image_to_text"] += float((similarity.argmax(1) == labels).float().mean()) / groups
        row["text_to_image"] += float((similarity.argmax(0) == labels).float().mean()) / groups
        row["partial_text_to_image"] += (
            float(((image_ND[here] @ partial_ND[here].T).argmax(0) == labels).float().mean())
            / groups
        )
    row["swapped_attributes"] = _swaps(image_features, texts)
    row["cast_nearest_neighbour"] = _cast_neighbours(image_features, cast_seed, cut_out=True)
    row["cast_nearest_neighbour/whole_pictures"] = _cast_neighbours(
        image_features, cast_seed, cut_out=False
    )
    return dict(row)


def _swaps(image_features, texts, *, count: int = 128) -> float:
    """Share of pairs whose caption is nearer than the one with the two figures' clothes exchanged;
    chance is 0.5.
    """
    import dataclasses

    scenes = held_out(count, kinds=("pair_white",), seed=3)
    pairs = []
    for scene in scenes:
        first, second = (figure.character for figure in scene.figures[:2])
        swapped = [
            dataclasses.replace(second, species=first.species),
            dataclasses.replace(first, species=second.species),
        ]
        figures = tuple(
            dataclasses.replace(f, character=c) for f, c in zip(scene.figures, swapped, strict=True)
        )
        pairs.append(
            (full_caption(scene), full_caption(dataclasses.replace(scene, figures=figures)))
        )
    image_ND = image_features(as_tensor([render(scene, size=RESOLUTION) for scene in scenes]))
    right, wrong = (texts([pair[i] for pair in pairs]) for i in range(2))
    return float(((image_ND * right).sum(1) > (image_ND * wrong).sum(1)).float().mean())


def _cast_neighbours(image_features, cast_seed: int, *, cut_out: bool) -> float:
    """Share of held-out cast images whose nearest reference image shows the same character.

    `cut_out`: the figures alone on white, by their true masks; whole images are also like each
    other for their places.
    """

    def load(scenes_of) -> tuple[Tensor, list[str]]:
        scenes = [
            (name, scene)
            for name, character in cast(cast_seed).items()
            for scene in scenes_of(name, character, cast_seed)
        ]
        renderings = [render(scene, size=RESOLUTION) for _, scene in scenes]
        images = [_alone(rendering) if cut_out else rendering.image for rendering in renderings]
        return image_features(
            torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        ), [name for name, _ in scenes]

    (reference, names), (query, truth_names) = load(reference_scenes), load(held_out_scenes)
    nearest = (query @ reference.T).argmax(1).tolist()
    return float(np.mean([names[i] == name for i, name in zip(nearest, truth_names, strict=True)]))


def _alone(rendering: Rendering) -> np.ndarray:
    return np.asarray(
        on_white(rendering.image, rendering.labels > 0, margin=0.1).resize((RESOLUTION,) * 2)
    )


@torch.no_grad()
def sam_row(sam, *, count: int) -> Row:
    """Mean IoU of a figure and of a part from one point at its inside, on scenes with one and two
    figures.
    """
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


def sam_coverage(sam, *, count: int, iou: float = 0.5) -> float:
    """Share of the parts larger than 1 % of an image that automatic masks find, by one mask of at
    least that IoU.
    """
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
