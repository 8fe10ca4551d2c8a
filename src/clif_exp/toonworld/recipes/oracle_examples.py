"""Examples for the oracle: rendered scenes, blends of two characters, partly erased figures.

The slots in which two blended characters differ are `ambiguous`; what was erased is `not visible`.
Training shows the cases that are hard to read more often than an examination (`TRAINING`,
`EXAMINATION`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clif_exp.toonworld.architectures import RESOLUTION
from clif_exp.toonworld.characters import sample_character
from clif_exp.toonworld.drawing.render import LABELS_PER_FIGURE, Rendering, render
from clif_exp.toonworld.grammar import PART_OF_SLOT, truth
from clif_exp.toonworld.oracle import AMBIGUOUS, ANSWERS, NOT_VISIBLE, STRIDE
from clif_exp.toonworld.recipes import places
from clif_exp.toonworld.recipes.processes import map_tasks
from clif_exp.toonworld.scenes import KIND_SHARES, sample_scene
from clif_exp.toonworld.world import PARTS, Scene

SEED = 3
MAX_FIGURES = 3
_INDEX = {
    slot: {answer: i for i, answer in enumerate(answers)} for slot, answers in ANSWERS.items()
}
_CHUNK = 256


@dataclass(frozen=True)
class Mix:
    """Shares of the kinds of examples.

    Attributes:
        kinds: share of each kind of `scenes.KIND_SHARES`.
        overlapping: share of the pairs forced to stand behind or ride each other.
        blends: share of images that blend two characters.
        erasures: share of images in which a figure is partly erased.
    """

    kinds: dict[str, float]
    overlapping: float
    blends: float
    erasures: float


EXAMINATION = Mix(KIND_SHARES, overlapping=0.0, blends=0.15, erasures=0.15)
# Most errors were on rows of three, which are small, and on figures behind or on top of another, of
# which little is visible.
_HARD = {
    "single": 0.18,
    "single_white": 0.06,
    "pair": 0.42,
    "pair_white": 0.10,
    "parts": 0.05,
    "row": 0.19,
}
TRAINING = Mix(_HARD, overlapping=0.5, blends=0.12, erasures=0.25)


class Example(NamedTuple):
    """One image for training or examination.

    Attributes:
        images: uint8 [128, 128, 3].
        boxes: float [3, 4] in pixels, NaN where there is no figure.
        answers: int64 [3, slots].
        places: int16 [questions, 16, 16], see `places.targets`; all ignored if the image is a
            blend or partly erased.
    """

    images: np.ndarray
    boxes: np.ndarray
    answers: np.ndarray
    places: np.ndarray


def draw_example(seed: int, index: int, *, mix: Mix = EXAMINATION) -> Example:
    """Draw example number `index` of the series `seed`."""
    rng = np.random.default_rng([seed, index])
    scene = _scene(rng, mix)
    rendering = render(scene, size=RESOLUTION)
    image, answers = rendering.image, truth(scene, rendering)
    half = STRIDE // 2
    cells = places.targets([scene], rendering.labels[None, half::STRIDE, half::STRIDE])[0].astype(
        np.int16
    )
    kind = rng.random()
    if kind < mix.blends + mix.erasures and scene.figures:
        cells[:] = places.IGNORED
    if kind < mix.blends and scene.figures:
        image, answers = _blend(scene, rendering, answers, rng)
    elif kind < mix.blends + mix.erasures and scene.figures:
        image, answers = _erase(rendering, answers, rng)
    boxes = np.full((MAX_FIGURES, 4), np.nan, np.float32)
    indices = np.zeros((MAX_FIGURES, len(ANSWERS)), np.int64)
    for row, attributes in enumerate(answers[:MAX_FIGURES]):
        if rendering.boxes[row] is None:
            continue
        boxes[row] = rendering.boxes[row]
        indices[row] = [_INDEX[slot][attributes[slot]] for slot in ANSWERS]
    return Example(image, boxes, indices, cells)


def _scene(rng: np.random.Generator, mix: Mix) -> Scene:
    kind = str(rng.choice(list(mix.kinds), p=list(mix.kinds.values())))
    overlap = kind == "pair" and mix.overlapping > 0 and rng.random() < mix.overlapping
    while True:
        scene = sample_scene(rng, kind=kind, allow_cast_only=True)
        if not overlap or scene.interaction in ("behind", "riding"):
            return scene


def _blend(
    scene: Scene, rendering: Rendering, answers: list[dict[str, str]], rng: np.random.Generator
) -> tuple[np.ndarray, list[dict[str, str]]]:
    """Blend every figure with another one in its place; what they do not share is ambiguous."""
    others = []
    for figure in scene.figures:
        donor = sample_character(rng, allow_cast_only=True)
        # Often the same species and style, as when two look-alikes fuse.
        if rng.random() < 0.6:
            donor = dataclasses.replace(
                donor, species=figure.character.species, style=figure.character.style
            )
        others.append(dataclasses.replace(figure, character=donor))
    second = dataclasses.replace(scene, figures=tuple(others))
    other = render(second, size=RESOLUTION)
    share = rng.uniform(0.38, 0.62)
    image = (share * rendering.image + (1 - share) * other.image).round().astype(np.uint8)
    blended = [
        {slot: own[slot] if own[slot] == theirs[slot] else AMBIGUOUS for slot in own}
        for own, theirs in zip(answers, truth(second, other), strict=True)
    ]
    return image, blended


def _erase(
    rendering: Rendering, answers: list[dict[str, str]], rng: np.random.Generator
) -> tuple[np.ndarray, list[dict[str, str]]]:
    """Paint over one side of a figure; parts that lost most of their pixels are not visible."""
    image, answers = rendering.image.copy(), [dict(attributes) for attributes in answers]
    box = rendering.boxes[int(rng.integers(len(answers)))]
    if box is None:
        return image, answers
    x0, y0, x1, y1 = box
    cut = rng.uniform(0.25, 0.6)
    side = rng.choice(["top", "bottom", "left", "right"], p=[0.3, 0.4, 0.15, 0.15])
    if side in ("top", "bottom"):
        edge = round((y1 - y0) * cut)
        y0, y1 = (y0, y0 + edge) if side == "top" else (y1 - edge, y1)
    else:
        edge = round((x1 - x0) * cut)
        x0, x1 = (x0, x0 + edge) if side == "left" else (x1 - edge, x1)
    colour = (
        (255, 255, 255)
        if rng.random() < 0.5
        else image[rng.integers(RESOLUTION), rng.choice([1, RESOLUTION - 2])]
    )
    erased = np.zeros(rendering.labels.shape, bool)
    erased[y0:y1, x0:x1] = True
    image[erased] = colour
    for index, attributes in enumerate(answers):
        for slot in attributes:
            if _lost(rendering.labels, erased, index, PART_OF_SLOT[slot]) > 0.65:
                attributes[slot] = NOT_VISIBLE
    return image, answers


def _lost(labels_HW: np.ndarray, erased_HW: np.ndarray, index: int, part: str) -> float:
    """Share of a figure's part that is erased, or of the part beneath it if the figure lacks it.

    Without a head the image does not show whether there was a hat, so the answer must not either.
    """
    for name in (part, "top" if part == "bottom" else "head"):
        pixels = labels_HW == 1 + index * LABELS_PER_FIGURE + PARTS.index(name)
        if pixels.any():
            return float((pixels & erased_HW).sum() / pixels.sum())
    return 0.0


def _draw_chunk(task: tuple[int, int, int]) -> Example:
    seed, start, count = task
    return Example(
        *(
            np.stack(column)
            for column in zip(
                *(draw_example(seed, start + i, mix=TRAINING) for i in range(count)), strict=True
            )
        )
    )


def render_examples(
    folder: Path, *, size: int, seed: int = SEED, workers: int = 2
) -> dict[str, np.ndarray]:
    """Draw the oracle's training examples into `folder`, or open those of an earlier call."""
    path = folder / f"oracle-hard-seed{seed}-{size}.npz"
    if not path.exists():
        tasks = [(seed, start, min(_CHUNK, size - start)) for start in range(0, size, _CHUNK)]
        chunks = map_tasks(_draw_chunk, tasks, workers=workers)
        drawn = Example(*(np.concatenate(column) for column in zip(*chunks, strict=True)))
        partial = path.with_name("partial.npz")
        np.savez(partial, **drawn._asdict())
        partial.replace(path)
    return dict(np.load(path))
