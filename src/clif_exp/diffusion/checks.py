"""Checks of stage 2's settings against the base model's files, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.spec import is_local
from clif_exp.diffusion.prior import general_prompts

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.diffusion.settings import DiffusionSettings


def check_settings(spec: BaseModels, settings: DiffusionSettings) -> None:
    """Refuse settings that the base model has no place for.

    Args:
        spec: resolved base models.
        settings: of stage 2.

    Raises:
        ValueError: target modules, a rank, a scheduler, a loss weighting or a number of prior
            images that does not fit; names the field and how to fix it.
    """
    if settings.prior_share:
        general_prompts(spec.record.world, settings=settings.prior)
    folder = _folder(spec)
    if (tuning := settings.unet_tuning()) is not None:
        tuning.check(linear_layers(folder / "unet"))
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    prediction = prediction_of(scheduler)
    if str(scheduler.get("_class_name")).startswith("FlowMatch"):
        raise ValueError(
            "model.path: a stock pipeline cannot draw with the scheduler"
            f" {scheduler['_class_name']}; save it with a DPMSolverMultistepScheduler"
            " (prediction_type='flow_prediction', use_flow_sigmas=True)."
        )
    if settings.min_snr_gamma is not None and prediction == "flow_prediction":
        raise ValueError(no_min_snr(settings.min_snr_gamma))


def no_min_snr(gamma: float) -> str:
    """Return the error message for min-SNR weighting with a flow model."""
    return (
        f"diffusion.min_snr_gamma: found {gamma}, but the base model predicts flow, for which it is"
        " not defined; set it to null."
    )


def prediction_of(config: Mapping[str, Any]) -> str:
    """Return what the U-Net predicts: "epsilon", "v_prediction", "sample" or "flow_prediction".

    Args:
        config: of the pipeline's scheduler, `_class_name` included.

    Raises:
        ValueError: it says something else.
    """
    flow = str(config.get("_class_name", "")).startswith("FlowMatch")
    kind = "flow_prediction" if flow else config.get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction", "sample", "flow_prediction"):
        known = "epsilon, v_prediction, sample and flow_prediction"
        raise ValueError(
            f"model.path: the scheduler's prediction_type is {kind!r}; known are {known}."
        )
    return kind


def linear_layers(folder: Path) -> dict[str, tuple[int, int]]:
    """Return a saved model's linear layers: name -> (outputs, inputs), from safetensors headers."""
    layers = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name.endswith(".weight") and len(tensor["shape"]) == 2:
                layers[name.removesuffix(".weight")] = (tensor["shape"][0], tensor["shape"][1])
    return layers


def _folder(spec: BaseModels) -> Path:
    if is_local(str(spec.path)):
        return Path(str(spec.path)).expanduser()
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(spec.path), revision=spec.revision, local_files_only=True))
