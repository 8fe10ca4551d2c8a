"""What tests of several rooms use."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from PIL import Image

from clif_exp.runs.composing import compose
from clif_exp.runs.config import Config
from clif_exp.runs.messages import config_folder

SAMPLING = {"guidance_scale": 3.0, "num_inference_steps": 2}


# As far as an untrained SD 1.5 of 32 px goes: no SAM, no captioner, no detector; a few steps.
SMALL = [
    "debug=fast",
    "callbacks=quiet",
    "segmenter=felzenszwalb",
    "augmentation.region.num_pairs=0",
    "evaluation.judge.image_path=null",
    "evaluation.reader={kind: none}",
    "model.resolution=32",
    "contrastive.steps=2",
    "contrastive.batch_size=8",
    "diffusion.steps=2",
    "diffusion.batch_size=2",
    "diffusion.accumulate=1",
    "generation.seeds=[0]",
]


def composed(*overrides: str) -> dict[str, Any]:
    """The config of a command line as plain values, not yet checked."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = hydra_compose("config", list(overrides))
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


@cache
def default_config(*overrides: str) -> Config:
    """The shipped config, composed once."""
    return compose(*overrides)


def settings(room: str, **changes: Any) -> Any:
    """A room's settings as the YAML states them, but for `changes`, which are checked as any are.

    Args:
        room: a config group, such as "diffusion"; a dot goes further down ("augmentation.region").
        changes: by the YAML's keys.
    """
    found: Any = default_config()
    for name in room.split("."):
        found = getattr(found, "global_" if name == "global" else name)
    return type(found).model_validate(found.model_dump(by_alias=True) | changes)


def write_image(
    file: Path, *, seed: int = 0, size: tuple[int, int] = (48, 40), mode: str = "RGB"
) -> Path:
    """Write an image of noise, another one for each name and seed; return its file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *file.stem.encode()]).integers(
        0, 256, (size[1], size[0], 3), np.uint8
    )
    Image.fromarray(pixels).convert(mode).save(file)
    return file


def concepts_yaml(root: Path, text: str) -> Path:
    """Write a concepts.yaml; return its folder."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "concepts.yaml").write_text(text)
    return root


def web_lora(export: Path) -> Path:
    """The file of an export that ComfyUI, A1111, Forge and kohya's scripts load."""
    others = ("pytorch_lora_weights", "pytorch_custom_diffusion_weights", "kohya")
    (file,) = (found for found in export.glob("*.safetensors") if found.stem not in others)
    assert (export / "kohya.safetensors").read_bytes() == file.read_bytes()
    return file
