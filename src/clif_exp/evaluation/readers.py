"""ToonWorld's oracle as a reader of figures; `open_vocabulary` holds the reader of real images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from clif_exp.evaluation.figures import Figure


class OracleReader:
    """ToonWorld's oracle as a reader.

    Args:
        folder: the oracle's weights.
        min_score: figures below this confidence are dropped, beyond the oracle's own threshold.
        device: torch device.
    """

    def __init__(self, folder: Path, *, min_score: float, device: str = "cpu") -> None:
        from clif_exp.toonworld.oracle import load_oracle

        self.oracle = load_oracle(folder).to(device)
        self.device, self.min_score = device, min_score

    def read(self, images: Sequence[Image.Image]) -> list[list[Figure]]:
        """Find the figures of each image, resized to the oracle's 128 x 128 px."""
        import numpy as np
        import torch

        from clif_exp.toonworld.architectures import RESOLUTION

        if not images:
            return []
        pixels_BHWC = np.stack(
            [np.asarray(image.convert("RGB").resize((RESOLUTION, RESOLUTION))) for image in images]
        )
        images_BCHW = torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2).float() / 255
        readings = self.oracle.read(images_BCHW.to(self.device))
        return [
            [_scaled(reading, RESOLUTION) for reading in image if reading.score >= self.min_score]
            for image in readings
        ]

    def embed(self, _images: Sequence[Image.Image]) -> None:
        """Return None: the oracle reads and does not compare."""


def _scaled(reading: Any, side: int) -> Figure:
    left, top, right, bottom = (edge / side for edge in reading.box)
    return Figure((left, top, right, bottom), reading.score, reading.attributes)
