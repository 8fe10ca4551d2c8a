"""What of stage 2's settings depends on the base model, checked from its files before anything runs
or is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.spec import is_local

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels


def check_settings(spec: BaseModels, settings: Mapping[str, Any]) -> None:
    """Refuse target modules, a rank, a scheduler or a loss weighting that the base model has no
    place for.

    Args:
        spec: resolved base models.
        settings: the config's `diffusion`.

    Raises:
        ValueError: names the field, and what would do.
    """
    folder = _folder(spec)
    if settings["rank"]:
        check_lora(
            linear_layers(folder / "unet"),
            rank=settings["rank"],
            target_modules=settings["target_modules"],
        )
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    prediction = prediction_of(scheduler)
    if str(scheduler.get("_class_name")).startswith("FlowMatch"):
        other = (
            "save it with a DPMSolverMultistepScheduler (prediction_type='flow_prediction',"
            " use_flow_sigmas=True)"
        )
        raise ValueError(
            "model.path: a stock pipeline cannot draw with the scheduler"
            f" {scheduler['_class_name']}; {other}."
        )
    if settings["min_snr_gamma"] is not None and prediction == "flow_prediction":
        raise ValueError(no_min_snr(settings["min_snr_gamma"]))


def check_lora(
    layers: Mapping[str, tuple[int, int]], *, rank: int, target_modules: Sequence[str]
) -> None:
    """Refuse targets that no layer's name ends in, and a rank beyond the narrowest of them.

    Args:
        layers: name of every linear layer -> (outputs, inputs).
        rank: of the LoRA.
        target_modules: endings of layers' names.

    Raises:
        ValueError: names the target or the layer.
    """
    for target in target_modules:
        found = {name: min(shape) for name, shape in layers.items() if name.endswith(f".{target}")}
        if not found:
            endings = {
                ".".join(name.split(".")[-2:]) if name[-1].isdigit() else name.split(".")[-1]
                for name in layers
                if "attn" in name
            }
            known = ", ".join(sorted(endings))
            raise ValueError(
                f"diffusion.target_modules: no layer ends in {target!r}. Attention layers here:"
                f" {known}."
            )
        name, width = min(found.items(), key=lambda item: item[1])
        if rank > width:
            raise ValueError(
                f"diffusion.rank: found {rank}, but {name} is {width} wide. Choose a rank of at"
                f" most {width}."
            )


def no_min_snr(gamma: float) -> str:
    """Say why min-SNR does not go with a flow model."""
    return (
        f"diffusion.min_snr_gamma: found {gamma}, but the base model predicts flow, for which it is"
        " not defined; set it to null."
    )


def prediction_of(config: Any) -> str:
    """Return what a scheduler's config says that its U-Net predicts: epsilon, v_prediction, sample
    or flow_prediction.

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
    """Return the linear layers of a saved model: name -> shape of its weight, from the headers of
    its safetensors.
    """
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
