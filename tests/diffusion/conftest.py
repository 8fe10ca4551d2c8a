"""Prior images for stage 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def prior_images(tmp_path_factory) -> Path:
    """A folder as generation publishes one: four images of noise of two prompts."""
    folder = tmp_path_factory.mktemp("prior_images")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(4):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        prompt = ("a photo of a man", "a photo of a cat on the beach")[number % 2]
        lines.append(json.dumps({"file": f"{number}.png", "prompt": prompt}))
    (folder / "generations.jsonl").write_text("\n".join(lines) + "\n")
    return folder
