"""The oracle: reads species and attributes of every figure in an image.

It is trained on rendered truth, never on a method's output. It is a small convolutional detector in
the manner of CenterNet (Zhou et al. 2019): a heat map of figure centres, and at each centre a box
and one classification per attribute slot. Every slot has two answers beside its values: `ambiguous`
(the image shows a blend) and `not visible` (hidden or cut off).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clif_exp.toonworld.world import SLOTS

AMBIGUOUS, NOT_VISIBLE = "ambiguous", "not visible"
STRIDE = 8
ANSWERS: dict[str, tuple[str, ...]] = {
    slot: (*values, AMBIGUOUS, NOT_VISIBLE) for slot, values in SLOTS.items()
}


@dataclass(frozen=True)
class FigureReading:
    """One figure as the oracle reads it.

    Attributes:
        box: left, top, right, bottom in pixels of the image that was read.
        score: confidence that a figure is there, in (0, 1).
        attributes: slot -> most probable answer (a value of the slot, `ambiguous` or `not
            visible`).
        probabilities: slot -> answer -> calibrated probability.
    """

    box: tuple[float, float, float, float]
    score: float
    attributes: dict[str, str]
    probabilities: dict[str, dict[str, float]]


class _Block(nn.Module):
    """Two 3 x 3 convolutions with a residual connection."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        # Groups of one size, whatever the width: `recipes/widen.py` adds whole groups.
        groups = max(8, outputs // 16)
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(groups, outputs)
        self.second = nn.Conv2d(
            outputs, outputs, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.second_norm = nn.GroupNorm(groups, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h = F.silu(self.first_norm(self.first(x_BCHW)))
        return F.silu(self.second_norm(self.second(h)) + self.shortcut(x_BCHW))


class Oracle(nn.Module):
    """Figure detector with attribute heads; `read` is what evaluation uses."""

    def __init__(self, *, width: int = 128, depth: int = 4) -> None:
        super().__init__()
        self.hyperparameters = {"width": width, "depth": depth}
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            _Block(32, 64, stride=2),
            _Block(64, 64),  # before the last halving: patterns and glasses are a few pixels wide
            _Block(64, width, stride=2),
            # Alternating dilation: the whole figure and its neighbour must be in a centre's view.
            *[_Block(width, width, dilation=1 + i % 2) for i in range(depth)],
        )
        self.centre = nn.Conv2d(width, 1, 1)
        self.box = nn.Conv2d(width, 4, 1)
        self.hidden = nn.Conv2d(width, 2 * width, 1)
        self.slots = nn.ModuleDict(
            {slot: nn.Conv2d(2 * width, len(answers), 1) for slot, answers in ANSWERS.items()}
        )
        self.centre.bias.data.fill_(-4.0)  # type: ignore[union-attr]  # no figures: the start of focal losses
        self.temperature: Tensor
        # Per slot, fitted on held-out scenes.
        self.register_buffer("temperature", torch.ones(len(ANSWERS)))
        self.register_buffer("threshold", torch.tensor(0.3))

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Compute the maps, of stride 8.

        Args:
            images_BCHW: float in [0, 1].

        Returns:
            `centre`: logits [B, H, W]; `box`: distances in strides to the left, top, right and
            bottom side [B, 4, H, W], all positive; and per slot logits [B, answers, H, W].
        """
        x = self.body(images_BCHW * 2 - 1)
        hidden = F.silu(self.hidden(x))
        maps = {slot: head(hidden) for slot, head in self.slots.items()}
        return {"centre": self.centre(x)[:, 0], "box": F.softplus(self.box(x)), **maps}

    @torch.no_grad()
    def read(self, images_BCHW: Tensor, *, batch_size: int = 64) -> list[list[FigureReading]]:
        """Read the figures of each image, best first.

        Args:
            images_BCHW: float in [0, 1], any height and width divisible by 8; trained at 128 x 128.
            batch_size: images per forward pass.

        Returns:
            One list of figures per image.
        """
        readings: list[list[FigureReading]] = []
        for images in images_BCHW.split(batch_size):
            maps = {
                key: value.float() for key, value in self(images.to(self.threshold.device)).items()
            }
            heat = maps["centre"].sigmoid()
            peaks = (heat == F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0]) & (heat > self.threshold)
            for index in range(len(images)):
                found = [
                    self._figure(maps, heat, index, y, x)
                    for y, x in peaks[index].nonzero().tolist()
                ]
                readings.append(_suppress(sorted(found, key=lambda figure: -figure.score)))
        return readings

    def _figure(
        self, maps: dict[str, Tensor], heat: Tensor, index: int, y: int, x: int
    ) -> FigureReading:
        left, top, right, bottom = (maps["box"][index, :, y, x] * STRIDE).tolist()
        cx, cy = (x + 0.5) * STRIDE, (y + 0.5) * STRIDE
        probabilities = {}
        for (slot, answers), temperature in zip(
            ANSWERS.items(), self.temperature.tolist(), strict=True
        ):
            shares = (maps[slot][index, :, y, x] / temperature).softmax(0).tolist()
            probabilities[slot] = dict(zip(answers, shares, strict=True))
        return FigureReading(
            box=(cx - left, cy - top, cx + right, cy + bottom),
            score=float(heat[index, y, x]),
            attributes={
                slot: max(shares, key=shares.__getitem__) for slot, shares in probabilities.items()
            },
            probabilities=probabilities,
        )


def _suppress(figures: list[FigureReading], *, overlap: float = 0.7) -> list[FigureReading]:
    """Drop boxes that overlap a better one; the limit is high since hugging figures overlap."""
    kept: list[FigureReading] = []
    for figure in figures:
        if all(_iou(figure.box, other.box) < overlap for other in kept):
            kept.append(figure)
    return kept


def _iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / max(sum(areas) - width * height, 1e-9)


def build_oracle() -> Oracle:
    """An untrained oracle of the shipped size."""
    return Oracle(width=192)


def write_oracle(out: Path, *, oracle: Oracle) -> None:
    """Save weights in fp16 as `model.safetensors`; metadata: hyper-parameters, slots' answers."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    metadata = {
        "hyperparameters": json.dumps(oracle.hyperparameters),
        "answers": json.dumps(ANSWERS),
    }
    tensors = {key: value.half().contiguous() for key, value in oracle.state_dict().items()}
    save_file(tensors, out / "model.safetensors", metadata=metadata)


def load_oracle(folder: Path) -> Oracle:
    """Load an oracle in fp32, eval mode.

    Raises:
        ValueError: the oracle was trained for other slots or values than `world.py` defines.
    """
    from safetensors import safe_open

    path = Path(folder) / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  # no mapping
    if json.loads(metadata["answers"]) != {
        slot: list(answers) for slot, answers in ANSWERS.items()
    }:
        raise ValueError(
            f"{path}: trained for other attributes than toonworld/world.py defines; retrain the"
            " oracle"
        )
    oracle = Oracle(**json.loads(metadata["hyperparameters"]))
    oracle.load_state_dict(state)
    return oracle.eval()
