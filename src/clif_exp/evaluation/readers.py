"""What is in an image: figures with a place and either read attributes or likenesses to the
concepts.

Everything after this file works on `Figure`s alone, so any detector that can fill them can judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from clif_exp.evaluation.figures import Figure, FigureReader


class OracleReader:
    """ToonWorld's oracle as a reader.

    Args:
        folder: the oracle's weights.
        device: torch device.
        min_score: figures below this confidence are dropped, beyond the oracle's own threshold.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", min_score: float = 0.0) -> None:
        from clif_exp.toonworld.oracle import load_oracle

        self.oracle = load_oracle(folder).to(device)
        self.device, self.min_score = device, min_score

    def read(self, images: Sequence[Image.Image]) -> list[list[Figure]]:
        """Read images at the oracle's resolution, 128 x 128 px."""
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


def _scaled(reading: Any, side: int) -> Figure:
    left, top, right, bottom = (edge / side for edge in reading.box)
    return Figure((left, top, right, bottom), reading.score, reading.attributes)


READERS = ("oracle", "open_vocabulary", "none")


def check_reader(settings: Mapping[str, Any]) -> None:
    """Check that the reader which `evaluation.reader` names exists.

    Raises:
        ValueError: an unknown kind, or an oracle folder without weights.
    """
    kind = settings.get("kind", "none")
    if kind not in READERS:
        raise ValueError(
            f"evaluation.reader.kind: unknown value {kind!r}. Choose from {', '.join(READERS)}."
        )
    if kind == "oracle" and not (Path(settings["path"]) / "model.safetensors").exists():
        raise ValueError(
            f"evaluation.reader.path: {settings['path']} holds no model.safetensors. Name the"
            " oracle's folder, or set kind: none."
        )


def load_reader(
    settings: Mapping[str, Any], *, references: Mapping[str, Sequence[Path]], device: str
) -> FigureReader | None:
    """Build the reader that `evaluation.reader` names; None for kind none.

    Args:
        settings: `kind` and that kind's own settings, with `path` filled in for the oracle.
        references: concept -> reference images, for readers that compare.
        device: torch device.
    """
    check_reader(settings)
    if settings.get("kind") == "oracle":
        return OracleReader(
            Path(settings["path"]), device=device, min_score=settings.get("min_score", 0.0)
        )
    if settings.get("kind") == "open_vocabulary":
        from clif_exp.evaluation.open_vocabulary import OpenVocabularyReader

        options = {key: value for key, value in settings.items() if key not in ("kind", "path")}
        return OpenVocabularyReader(references, device=device, **options)
    return None
