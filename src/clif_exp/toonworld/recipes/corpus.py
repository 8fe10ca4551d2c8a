"""The rendered corpus that every base model is trained on: images, label maps and the scenes they
came from.
"""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clif_exp.artifacts.files import write_bytes
from clif_exp.toonworld.architectures import RESOLUTION
from clif_exp.toonworld.drawing.render import render
from clif_exp.toonworld.scenes import sample_scene
from clif_exp.toonworld.world import Scene

_CHUNK = 512


@dataclass(frozen=True)
class Corpus:
    """Memory-mapped scenes.

    Attributes:
        images_NHWC: uint8 [N, 128, 128, 3].
        labels_NHW: uint8 [N, 128, 128], see `draw.render`.
        scenes: the N scenes drawn.
    """

    images_NHWC: np.ndarray
    labels_NHW: np.ndarray
    scenes: list[Scene]

    def __len__(self) -> int:
        return len(self.scenes)


def _draw_chunk(task: tuple[int, int, int, bool]) -> tuple[np.ndarray, np.ndarray, list[Scene]]:
    seed, start, count, allow_cast_only = task
    images = np.empty((count, RESOLUTION, RESOLUTION, 3), np.uint8)
    labels = np.empty((count, RESOLUTION, RESOLUTION), np.uint8)
    scenes = []
    for offset in range(count):
        # One generator per scene: the corpus does not depend on chunks or on the number of
        # processes.
        scene = sample_scene(
            np.random.default_rng([seed, start + offset]), allow_cast_only=allow_cast_only
        )
        rendering = render(scene, size=RESOLUTION)
        images[offset], labels[offset] = rendering.image, rendering.labels
        scenes.append(scene)
    return images, labels, scenes


def render_corpus(
    folder: Path, *, size: int, seed: int, allow_cast_only: bool = False, workers: int = 2
) -> Corpus:
    """Draw `size` scenes into `folder`, or open what an earlier call has drawn there.

    Args:
        folder: 64 KiB per scene are written here.
        size: number of scenes.
        seed: scene i derives from (seed, i).
        allow_cast_only: also draw attributes that only casts have (the oracle must read those, base
            models never see them).
        workers: processes.
    """
    folder = folder / f"{'all' if allow_cast_only else 'base'}-seed{seed}-{size}"
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
            (seed, start, min(_CHUNK, size - start), allow_cast_only)
            for start in range(0, size, _CHUNK)
        ]
        scenes: list[Scene] = []
        with ProcessPoolExecutor(workers) as pool:
            for (_, start, count, _), drawn in zip(
                tasks, pool.map(_draw_chunk, tasks), strict=True
            ):
                images[start : start + count], labels[start : start + count] = drawn[:2]
                scenes += drawn[2]
        images.flush()
        labels.flush()
        # Last: its presence says that the arrays are whole.
        write_bytes(finished, pickle.dumps(scenes))
    return Corpus(
        images_NHWC=np.load(folder / "images.npy", mmap_mode="r"),
        labels_NHW=np.load(folder / "labels.npy", mmap_mode="r"),
        scenes=pickle.loads(finished.read_bytes()),  # our own file, in the user's own cache
    )
