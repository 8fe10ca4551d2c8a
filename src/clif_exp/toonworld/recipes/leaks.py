"""Pairs with attributes leaked from one figure to the other, as a U-Net's own mistakes look.

Given "a cat with a red crown next to a robot", a sampler's first steps show a crown on either side,
since nothing is decided yet. Training images never do, so later steps would keep the second crown.
Here the noisy input shows the leak and the target is still the true image (exposure bias; Ning et
al. 2023, "Input Perturbation Reduces Exposure Bias in Diffusion Models", with the renderer's leaks
instead of Gaussian noise).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clif_exp.toonworld.architectures import RESOLUTION
from clif_exp.toonworld.characters import PAINTS
from clif_exp.toonworld.drawing.render import render
from clif_exp.toonworld.recipes import vae
from clif_exp.toonworld.recipes.corpus import Corpus
from clif_exp.toonworld.recipes.processes import map_tasks
from clif_exp.toonworld.world import Character, Scene

VERSION = 2  # part of the cached file's name: raise it when `leaked` changes
_GROUPS = (
    ("coat",),
    ("hat", "hat_colour"),
    ("top", "top_colour", "pattern", "bottom", "bottom_colour"),
    ("accessory",),
)
_SPECIES_RATE = 0.15  # two figures of one species are a rarer mistake
# Share of the leaked hats that take another colour: once colours no longer leak, kinds still do.
_RECOLOURED_RATE = 0.5
_TASK = 512  # scenes


def leaked(scene: Scene, rng: np.random.Generator) -> Scene:
    """Copy a pair with at least one attribute group leaked to the other figure.

    A hat leaks with its colour, or its kind alone in any colour.
    """
    first, second = (figure.character for figure in scene.figures)
    groups = [group for group in _GROUPS if rng.random() < 0.5] or [
        _GROUPS[rng.integers(len(_GROUPS))]
    ]
    if rng.random() < _SPECIES_RATE:
        groups.append(("species", "skin"))
    to_first: dict[str, Any] = {}
    to_second: dict[str, Any] = {}
    for group in groups:
        direction = rng.random()
        if direction < 0.6:  # from 0.4 to 0.6 the two figures exchange the group
            to_second |= {slot: getattr(first, slot) for slot in group}
        if direction > 0.4:
            to_first |= {slot: getattr(second, slot) for slot in group}
    for worn in (to_first, to_second):
        if worn.get("hat", "none") != "none" and rng.random() < _RECOLOURED_RATE:
            worn["hat_colour"] = str(rng.choice(PAINTS))
    people: tuple[Character, ...] = replace(first, **to_first), replace(second, **to_second)
    return replace(
        scene,
        figures=tuple(
            replace(f, character=who) for f, who in zip(scene.figures, people, strict=True)
        ),
    )


def pairs_of(corpus: Corpus) -> np.ndarray:
    """Return the rows of the scenes of two figures, int64 [P]."""
    return np.array(
        [row for row, scene in enumerate(corpus.scenes) if len(scene.figures) == 2], np.int64
    )


def encode_leaks(folder: Path, corpus: Corpus, path: Path, *, workers: int = 2) -> np.ndarray:
    """Encode one leak of every pair in the corpus to `path`, or open those of an earlier call.

    Args:
        folder: the published autoencoder.
        corpus: scenes.
        path: file to write, or to open if it is there.
        workers: processes of one thread each.

    Returns:
        Latents (modes), float16 [P, C, 16, 16], in the order of `pairs_of`.
    """
    if not path.exists():
        rows = pairs_of(corpus)
        tasks = [
            (folder, [(row, corpus.scenes[row]) for row in rows[start : start + _TASK]])
            for start in range(0, len(rows), _TASK)
        ]
        parts = map_tasks(_draw_and_encode, tasks, workers=workers, uses_torch=True)
        vae.save_latents(path, np.concatenate(list(parts)))
    return np.load(path)


def _draw_and_encode(task: tuple[Path, list[tuple[int, Scene]]]) -> np.ndarray:
    folder, numbered = task
    scenes = [leaked(scene, np.random.default_rng([9, row])) for row, scene in numbered]
    images = np.stack([render(scene, size=RESOLUTION).image for scene in scenes])
    return vae.encode_images((folder, images))
