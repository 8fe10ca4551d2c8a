"""The oracle: focal loss on figure centres, L1 on boxes, cross-entropy per slot; taught to say
ambiguous and not visible.

Its images are its own: scenes with every attribute (a cast's too), blends of two characters in
one place (the slots that differ are `ambiguous`), figures partly erased (`not visible`), then blur,
noise and the autoencoder's artefacts. What is hard to read comes up oftener in training than in an
examination (`TRAINING`, `EXAMINATION`). A head that is thrown away reads what is where (`places`)
half-way up, so that the rest has things to gather, not pixels.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clif_exp.artifacts.files import whole_file
from clif_exp.base_models.precision import cpu_autocast
from clif_exp.toonworld.architectures import RESOLUTION
from clif_exp.toonworld.drawing.render import LABELS_PER_FIGURE, render
from clif_exp.toonworld.grammar import PART_OF_SLOT, truth
from clif_exp.toonworld.oracle import (
    AMBIGUOUS,
    ANSWERS,
    NOT_VISIBLE,
    STRIDE,
    Oracle,
    build_oracle,
    write_oracle,
)
from clif_exp.toonworld.recipes import places
from clif_exp.toonworld.recipes.fit import Batch, Recipe
from clif_exp.toonworld.scenes import KIND_SHARES, sample_character, sample_scene
from clif_exp.toonworld.world import PARTS, Scene

SEED = 3
MAX_FIGURES = 3
PLACES_WEIGHT = 0.5
_MAP = RESOLUTION // STRIDE
_INDEX = {
    slot: {answer: i for i, answer in enumerate(answers)} for slot, answers in ANSWERS.items()
}
_CHUNK = 256
_FIRST_OF_STRIDE_8 = 4  # place in the oracle's body


@dataclass(frozen=True)
class Mix:
    """How often what is drawn.

    Attributes:
        kinds: shares of the kinds of `scenes.KIND_SHARES`.
        overlapping: share of the pairs that must stand behind or ride each other; the other pairs
            are as they come.
        blends: share of images that are a blend of two.
        erasures: share of images in which somebody is partly erased.
    """

    kinds: dict[str, float]
    overlapping: float
    blends: float
    erasures: float


EXAMINATION = Mix(KIND_SHARES, overlapping=0.0, blends=0.15, erasures=0.15)
# Three in a row are small, and of those behind or riding somebody little is to be seen: the most
# errors were theirs.
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
    """One image to learn from, or to be examined with.

    Attributes:
        images: uint8 [128, 128, 3].
        boxes: float [3, 4] in pixels, NaN where there is no figure.
        answers: int64 [3, slots].
        places: int16 [questions, 16, 16], see `places.targets`; all ignored where the image is no
            plain scene.
    """

    images: np.ndarray
    boxes: np.ndarray
    answers: np.ndarray
    places: np.ndarray


def draw_example(seed: int, index: int, *, mix: Mix = EXAMINATION) -> Example:
    """Example number `index` of the series `seed`."""
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


def _blend(scene: Scene, rendering, answers: list[dict[str, str]], rng: np.random.Generator):
    """Half of one character and half of another in the same place: what they do not share is
    ambiguous.
    """
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


def _erase(rendering, answers: list[dict[str, str]], rng: np.random.Generator):
    """Paint over the upper or lower, left or right part of a figure; what lost most of its pixels
    is not visible.
    """
    image, answers = rendering.image.copy(), [dict(attributes) for attributes in answers]
    row = int(rng.integers(len(answers)))
    if rendering.boxes[row] is None:
        return image, answers
    x0, y0, x1, y1 = (int(value) for value in rendering.boxes[row])
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
    """Share of a figure's part that is erased; of the place where it would be if the figure has
    none, as in `grammar.truth`.

    Who has lost the head may have had a hat or none: nobody can tell from the image, so neither
    must the answer.
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
    """Draw the oracle's examples into `folder`, or open what an earlier call has drawn."""
    path = folder / f"oracle-hard-seed{seed}-{size}.npz"
    if not path.exists():
        tasks = [(seed, start, min(_CHUNK, size - start)) for start in range(0, size, _CHUNK)]
        with ProcessPoolExecutor(workers) as pool:
            drawn = Example(
                *(
                    np.concatenate(column)
                    for column in zip(*pool.map(_draw_chunk, tasks), strict=True)
                )
            )
        with whole_file(path) as partial, partial.open("wb") as stream:
            np.savez(stream, **drawn._asdict())  # type: ignore[arg-type]  # its stub takes the names for options
    return dict(np.load(path))


class _WithPlaces(nn.Module):
    def __init__(self, oracle: Oracle):
        super().__init__()
        self.oracle = oracle
        self.reader = nn.Conv2d(oracle.hyperparameters["width"], places.ANSWERS, 1)

    def forward(self, images_BCHW: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The oracle's maps, and logits per question of `places.CLASSES` behind the first block of
        stride 8.
        """
        return places.read(
            lambda: self.oracle(images_BCHW),
            layer=self.oracle.body[_FIRST_OF_STRIDE_8],
            reader=self.reader,
        )


def recipe(
    folder: Path, *, scenes: int, vae_folder: Path, steps: int = 8_000, batch_size: int = 32
) -> Recipe:
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
        calibrate(trained.oracle, vae)
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
    """Mirror some of a batch's examples in place; who stands on which side is no answer of the
    oracle's.
    """
    left, top, right, bottom = boxes_BF4[rows].unbind(-1)
    boxes_BF4[rows] = torch.stack([RESOLUTION - right, top, RESOLUTION - left, bottom], dim=-1)
    images_BCHW[rows] = images_BCHW[rows].flip(3)
    cells_BQHW[rows] = cells_BQHW[rows].flip(3)


@torch.no_grad()
def calibrate(model: Any, vae: Any, *, count: int = 512) -> None:
    """Set the model's temperature per slot to the one of least cross-entropy on fresh examples (Guo
    et al. 2017).
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
    """What generated images suffer: a quarter through the autoencoder with noisy latents, a
    quarter blurred, some noise.
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
    found, answered = model(batch["images_BCHW"])
    maps = {key: value.float() for key, value in found.items()}
    boxes, answers = batch["boxes_BF4"], batch["answers_BFS"]
    present = ~boxes[..., 0].isnan()
    centres = (
        torch.stack([boxes[..., 0] + boxes[..., 2], boxes[..., 1] + boxes[..., 3]], dim=-1)
        / 2
        / STRIDE
    )
    grid = torch.arange(_MAP) + 0.5
    # [B, F, H, W] squared distance, in cells, of every cell to every figure's centre
    distance = (grid - centres[..., :1, None]).square() + (
        grid[:, None] - centres[..., 1:, None]
    ).square()
    distance = distance.nan_to_num(1e9)
    nearest, owner = distance.min(dim=1)
    heat = (-nearest / (2 * 0.8**2)).exp()
    # The cell that holds a centre is the positive one, also where the Gaussian is a little below 1.
    peak = (distance == distance.flatten(2).amin(2)[..., None, None]) & present[..., None, None]
    heat = torch.where(peak.any(1), torch.ones_like(heat), heat)
    focal = _focal(maps["centre"], heat) / present.sum().clamp(min=1)

    chosen = (heat > 0.5).nonzero()  # read attributes and boxes at the centre and right beside it
    b, y, x = chosen.T
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
    cells = batch["places_BQHW"]
    where = torch.stack(
        [
            F.cross_entropy(logits, cells[:, i], ignore_index=places.IGNORED)
            for i, logits in enumerate(answered)
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


def _focal(logits: Tensor, heat: Tensor) -> Tensor:
    """CenterNet's penalty-reduced focal loss (Law and Deng 2018, Eq. 1), summed over the map."""
    share = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    positive = heat == 1
    on = -((1 - share) ** 2) * share.log() * positive
    off = -((1 - heat) ** 4) * share**2 * (1 - share).log() * ~positive
    return (on + off).sum()
