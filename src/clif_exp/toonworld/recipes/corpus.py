"""The rendered corpus that base models are trained on: images, label maps and their scenes."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clif_exp.artifacts.files import write_bytes
from clif_exp.toonworld.architectures import RESOLUTION
from clif_exp.toonworld.drawing.render import render
from clif_exp.toonworld.recipes.processes import map_tasks
from clif_exp.toonworld.scenes import sample_scene
from clif_exp.toonworld.world import Scene

_CHUNK = 512


@dataclass(frozen=True)
class Corpus:
    """Memory-mapped scenes.

    Attributes:
        images_NHWC: uint8 [N, 128, 128, 3].
        labels_NHW: uint8 [N, 128, 128], see `drawing.render.Rendering`.
        scenes: the N scenes drawn.
    """

    images_NHWC: np.ndarray
    labels_NHW: np.ndarray
    scenes: list[Scene]

    def __len__(self) -> int:
        return len(self.scenes)


def _draw_chunk(
    task: tuple[int, int, int, bool, float],
) -> tuple[np.ndarray, np.ndarray, list[Scene]]:
    seed, start, count, allow_cast_only, named = task
    images = np.empty((count, RESOLUTION, RESOLUTION, 3), np.uint8)
    labels = np.empty((count, RESOLUTION, RESOLUTION), np.uint8)
    scenes = []
    for offset in range(count):
        # One generator per scene: the corpus does not depend on chunks or on the number of
        # processes.
        scene = sample_scene(
            np.random.default_rng([seed, start + offset]),
            allow_cast_only=allow_cast_only,
            named=named,
        )
        rendering = render(scene, size=RESOLUTION)
        images[offset], labels[offset] = rendering.image, rendering.labels
        scenes.append(scene)
    return images, labels, scenes


def render_corpus(
    folder: Path,
    *,
    size: int,
    seed: int,
    allow_cast_only: bool = False,
    named: float = 0.0,
    workers: int = 2,
) -> Corpus:
    """Draw `size` scenes into `folder`, or open those of an earlier call.

    Args:
        folder: takes 64 KiB per scene.
        size: number of scenes.
        seed: scene i derives from (seed, i).
        allow_cast_only: also draw attributes that only casts have (the oracle must read those, base
            models never see them).
        named: share of the characters who have a name (`names`).
        workers: processes.
    """
    drawn = ("all" if allow_cast_only else "base") + (f"-named{named:g}" if named else "")
    folder = folder / f"{drawn}-seed{seed}-{size}"
    finished = folder / "scenes.pickle"
    if not finished.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shape = (size, RESOLUTION, RESOLUTION)
        images = np.lib.format.open_memmap(
            folder / "images.npy", mode="w+", dtype=np.uint8, shape=(*shape, 3)
        )
        labels = np.lib.format.open_memmap(
            folder / "labels.npy", mode="w+", dtype=np.uint8, shape=shape
        )
        tasks = [
            (seed, start, min(_CHUNK, size - start), allow_cast_only, named)
            for start in range(0, size, _CHUNK)
        ]
        scenes: list[Scene] = []
        for part in map_tasks(_draw_chunk, tasks, workers=workers):
            chunk = slice(len(scenes), len(scenes) + len(part[2]))
            images[chunk], labels[chunk] = part[:2]
            scenes += part[2]
        images.flush()
        labels.flush()
        # Last: its presence says that the arrays are complete.
        write_bytes(finished, pickle.dumps(scenes))
    return Corpus(
        images_NHWC=np.load(folder / "images.npy", mmap_mode="r"),
        labels_NHW=np.load(folder / "labels.npy", mmap_mode="r"),
        scenes=pickle.loads(finished.read_bytes()),  # our own file, in the user's own cache
    )
