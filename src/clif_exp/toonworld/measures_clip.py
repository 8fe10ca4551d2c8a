"""What ToonWorld's CLIPs tell apart, on scenes that no recipe has drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
from clif_exp.toonworld.grammar import caption, full_caption
from clif_exp.toonworld.measures import Row, as_tensor, held_out
from clif_exp.toonworld.world import Character, Scene

GROUP = 64  # scenes among which one is retrieved


class _Features:
    """Normalised features of images and captions by a saved CLIP."""

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPModel, CLIPTokenizer

        self.model: Any = CLIPModel.from_pretrained(folder)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)

    def images(self, images_NCHW: Tensor) -> Tensor:
        """Features of images in [0, 1], float [N, D]."""
        size = self.model.config.vision_config.image_size
        pixels = F.interpolate(images_NCHW, size=(size, size), mode="area") * 2 - 1
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=-1)

    def texts(self, captions: list[str]) -> Tensor:
        """Features of captions, float [N, D]."""
        tokens = self.tokenizer(captions, padding=True, return_tensors="pt")
        pooled = self.model.text_model(**tokens).pooler_output
        return F.normalize(self.model.text_projection(pooled), dim=-1)


@torch.no_grad()
def clip_row(folder: Path, *, cast_seed: int, groups: int) -> Row:
    """Measure retrieval, swapped attributes, and nearest neighbours of an unseen cast.

    Args:
        folder: the saved CLIP.
        cast_seed: of the cast.
        groups: retrieval is averaged over this many groups of `GROUP` scenes.

    Returns:
        Shares of top-1 retrievals with full captions, both ways, and with partial captions; of
        captions nearer than with swapped attributes; of cast images nearest to their character.
    """
    features = _Features(folder)
    scenes = held_out(GROUP * groups, seed=2)
    image_ND = features.images(as_tensor([render(scene, size=RESOLUTION) for scene in scenes]))
    full_ND = features.texts([full_caption(scene) for scene in scenes])
    partial_ND = features.texts(
        [caption(scene, np.random.default_rng(i)) for i, scene in enumerate(scenes)]
    )
    row = dict.fromkeys(("image_to_text", "text_to_image", "partial_text_to_image"), 0.0)
    labels = torch.arange(GROUP)
    for group in range(groups):
        here = slice(GROUP * group, GROUP * (group + 1))
        full = image_ND[here] @ full_ND[here].T
        partial = image_ND[here] @ partial_ND[here].T
        for name, nearest in (
            ("image_to_text", full.argmax(1)),
            ("text_to_image", full.argmax(0)),
            ("partial_text_to_image", partial.argmax(0)),
        ):
            row[name] += float((nearest == labels).float().mean()) / groups
    row["swapped_attributes"] = _swaps(features)
    row["cast_nearest_neighbour"] = _cast_neighbours(features, cast_seed, cut_out=True)
    row["cast_nearest_neighbour/whole_pictures"] = _cast_neighbours(
        features, cast_seed, cut_out=False
    )
    return row


def _swaps(features: _Features, *, count: int = 128) -> float:
    """Share of pairs whose caption is nearer than one with swapped attributes; chance is 0.5."""
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
    image_ND = features.images(as_tensor([render(scene, size=RESOLUTION) for scene in scenes]))
    right, wrong = (features.texts([pair[i] for pair in pairs]) for i in range(2))
    return float(((image_ND * right).sum(1) > (image_ND * wrong).sum(1)).float().mean())


def _cast_neighbours(features: _Features, cast_seed: int, *, cut_out: bool) -> float:
    """Share of held-out cast images whose nearest reference image shows the same character.

    With `cut_out` the figures are alone on white, by their true masks; whole images also resemble
    each other in their places.
    """

    def load(scenes_of: Callable[[str, Character, int], list[Scene]]) -> tuple[Tensor, list[str]]:
        scenes = [
            (name, scene)
            for name, character in cast(cast_seed).items()
            for scene in scenes_of(name, character, cast_seed)
        ]
        renderings = [render(scene, size=RESOLUTION) for _, scene in scenes]
        images = [_alone(rendering) if cut_out else rendering.image for rendering in renderings]
        return features.images(
            torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        ), [name for name, _ in scenes]

    (reference, names), (query, truth_names) = load(reference_scenes), load(held_out_scenes)
    nearest = (query @ reference.T).argmax(1).tolist()
    return float(np.mean([names[i] == name for i, name in zip(nearest, truth_names, strict=True)]))


def _alone(rendering: Rendering) -> np.ndarray:
    return np.asarray(
        on_white(rendering.image, rendering.labels > 0, margin=0.1).resize((RESOLUTION,) * 2)
    )
