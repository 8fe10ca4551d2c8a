"""Checks of stage 2's settings against the base model's files, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.base_models.scheduler import prediction_of, scheduler_config
from clif_exp.base_models.spec import pipeline_folder
from clif_exp.diffusion.prior import refuse_too_many

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.diffusion.settings import DiffusionSettings


def check_settings(spec: BaseModels, settings: DiffusionSettings, *, concepts: int = 1) -> None:
    """Refuse settings that the base model has no place for.

    Args:
        spec: resolved base models.
        settings: of stage 2.
        concepts: how many.

    Raises:
        ValueError: target modules, a rank, a scheduler, a loss weighting or a number of prior
            images that does not fit; names the field and how to fix it.
    """
    if settings.prior_share:
        refuse_too_many(
            spec.record.world, count=settings.prior.images, field="diffusion.prior.images"
        )
    last = settings.orthogonal_start + concepts - 1
    if (tuning := settings.unet_tuning(position=last)) is not None:
        tuning.check(layers_of(pipeline_folder(spec) / "unet"))
    scheduler = scheduler_config(spec)
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


def layers_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return a saved model's linear layers and convolutions, from safetensors headers.

    Returns:
        Name -> its weight's shape: outputs, inputs, and a convolution's kernel.
    """
    layers: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name.endswith(".weight") and len(tensor["shape"]) in (2, 4):
                layers[name.removesuffix(".weight")] = tuple(tensor["shape"])
    return layers
