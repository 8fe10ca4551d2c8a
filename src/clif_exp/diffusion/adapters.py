"""The shared LoRA: put on a U-Net, taken off as the file that diffusers loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def add_lora(unet, *, rank: int, alpha: float, target_modules: Sequence[str], seed: int) -> None:
    """Add a trainable LoRA to a frozen U-Net; its weights are fp32 whatever the base's precision.

    Args:
        unet: UNet2DConditionModel; changes in place.
        rank: of the update.
        alpha: the update is scaled by alpha / rank.
        target_modules: endings of module names, e.g. "to_k".
        seed: of the initial weights.

    Raises:
        ValueError: no module ends in a target, or the rank is beyond a layer's width.
    """
    import torch
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    from clif_exp.diffusion.checks import check_lora

    layers = {
        name: (m.out_features, m.in_features)
        for name, m in unet.named_modules()
        if isinstance(m, torch.nn.Linear)
    }
    check_lora(layers, rank=rank, target_modules=target_modules)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]  # peft takes floats
            init_lora_weights="gaussian",
            target_modules=list(target_modules),
        )
        unet.add_adapter(config)
    cast_training_params(unet, dtype=torch.float32)


def store_in_autocast_dtype(unet, *, dtype) -> None:
    """Spare a U-Net that runs under autocast the conversions of every step; what it computes stays
    the same bit for bit.

    Args:
        unet: UNet2DConditionModel, with its adapter; changes in place.
        dtype: what autocast computes in.
    """
    import torch

    for module in unet.modules():
        if (
            isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
            and not module.weight.requires_grad
        ):
            module.to(
                dtype
                # autocast would make this copy of a frozen matrix in every pass, and hold it for the
                # backward one
            )
        if hasattr(module, "cast_input_dtype_enabled"):
            # peft would turn inputs into fp32, and autocast turn them back: a copy for each of the
            # layers that share one.
            module.cast_input_dtype_enabled = False


def save_lora(
    unet,
    out: Path,
    *,
    pipeline_class,
    text_lora: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> None:
    """Write pytorch_lora_weights.safetensors, with its alpha, which is lost without the metadata;
    nothing where there is no LoRA.

    Args:
        unet: with an adapter, or None.
        out: folder.
        pipeline_class: the stock pipeline that will load it.
        text_lora: text encoder -> (layers, settings) of stage 1's LoRA,
            `text_tuning.read_text_lora`.
    """
    from peft.utils import get_peft_model_state_dict

    layers: dict[str, Any] = {}
    if unet is not None:
        metadata = unet.peft_config["default"].to_dict()
        # Sets come in another order in every process; the same weights shall be the same file.
        metadata = {
            key: sorted(value) if isinstance(value, set) else value
            for key, value in metadata.items()
        }
        layers |= {
            "unet_lora_layers": get_peft_model_state_dict(unet),
            "unet_lora_adapter_metadata": metadata,
        }
    for encoder, (state, settings) in text_lora.items():
        layers |= {
            f"{encoder}_lora_layers": dict(state),
            f"{encoder}_lora_adapter_metadata": dict(settings),
        }
    if layers:
        pipeline_class.save_lora_weights(out, **layers)
