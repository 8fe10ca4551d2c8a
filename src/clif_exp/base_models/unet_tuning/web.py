"""The one file that ComfyUI, A1111, Forge and kohya's scripts load, from all that has a LoRA."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.base_models.unet_tuning.exported import WebLora

if TYPE_CHECKING:
    from clif_exp.base_models.unet_tuning.kind import ExportFacts

STABLE_NAME = "kohya.safetensors"


def write_web_lora(out: Path, parts: Sequence[WebLora], *, facts: ExportFacts) -> None:
    """Write LoRAs of different models (U-Net, text encoders) into one file, in kohya's naming."""
    from clif_exp.base_models.tensor_files import save_tensors
    from clif_exp.base_models.unet_tuning.headers import kohya_metadata
    from clif_exp.base_models.unet_tuning.kohya import to_kohya

    whole = _together(parts)
    kohya = to_kohya(whole.tensors, alphas=whole.alphas, family=facts.family)
    save_tensors(
        kohya, out / facts.web_file, metadata=kohya_metadata(kohya, lora=whole, facts=facts)
    )
    # for scripts, which look for one name
    shutil.copyfile(out / facts.web_file, out / STABLE_NAME)


def _together(parts: Sequence[WebLora]) -> WebLora:
    models = [model for part in parts for model in part.ranks]
    assert len(set(models)) == len(models), "each model is trained in one way"
    fits = [part.fit for part in parts if part.fit is not None]
    assert len(fits) <= 1, "only the U-Net has whole weights and a LoRA in their place"
    return WebLora(
        tensors={key: value for part in parts for key, value in part.tensors.items()},
        ranks={model: part.ranks[model] for part in parts for model in part.ranks},
        alphas={model: part.alphas[model] for part in parts for model in part.alphas},
        fit=fits[0] if fits else None,
    )
