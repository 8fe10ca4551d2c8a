"""The parts of a pipeline that stage 2 does not train: their precision, place and kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from clif_exp.base_models.loading import text_encoders_of
from clif_exp.base_models.precision import best_precision
from clif_exp.base_models.unet_tuning.targets import KEYS_AND_VALUES, is_target

if TYPE_CHECKING:
    from clif_exp.training.settings import TrainerSettings


def base_dtype(trainer: TrainerSettings) -> torch.dtype:
    """Return the precision that the base models' frozen weights have in training.

    On accelerators it is the one that they run in; on CPUs fp32, in which their outputs are cached.
    """
    return torch.float32 if trainer.device == "cpu" else autocast_dtype(trainer) or torch.float32


def store_frozen(pipeline: Any, *, dtype: torch.dtype) -> None:
    """Store what does not train in a precision; what trains stays in its own.

    Where the U-Net's own weights train they must start at the base's, which half precision has
    rounded by more than a short training moves them: such a pipeline is loaded in fp32.
    """
    encoders = [encoder for _, encoder in text_encoders_of(pipeline).values()]
    for part in (pipeline.unet, *encoders):
        for parameter in part.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)


def autocast_dtype(trainer: TrainerSettings) -> torch.dtype | None:
    """Return what autocast computes in, or None where it is off."""
    precision = (
        best_precision(trainer.device) if trainer.precision == "auto" else str(trainer.precision)
    )
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)


def offload(pipeline: Any, *, text_too: bool) -> None:
    """Move the autoencoder, and optionally the text encoders, to the CPU.

    Their outputs are cached, so that the steps do not need them.
    """
    encoders = [encoder for _, encoder in text_encoders_of(pipeline).values()] if text_too else []
    for part in (pipeline.vae, *encoders):
        part.to("cpu")


def set_attention(unet: Any, attention: str) -> None:
    """Choose a U-Net's attention kernels.

    Args:
        unet: UNet2DConditionModel; changes in place.
        attention: "sdpa", "plain", or "auto", which keeps what the loader chose.
    """
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

    if attention != "auto":
        unet.set_attn_processor(AttnProcessor2_0() if attention == "sdpa" else AttnProcessor())


def store_in_autocast_dtype(unet: Any, *, dtype: torch.dtype) -> None:
    """Save a U-Net under autocast the conversions of every step; results stay bit for bit.

    Args:
        unet: UNet2DConditionModel, with its adapter; changes in place.
        dtype: what autocast computes in.
    """
    for module in unet.modules():
        frozen = (
            isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
            and not module.weight.requires_grad
        )
        if frozen:
            # autocast would make this copy in every pass, and hold it for the backward one
            module.to(dtype)
        if hasattr(module, "cast_input_dtype_enabled"):
            # peft would convert inputs to fp32, and autocast back: a copy for each of the layers
            # that share one
            module.cast_input_dtype_enabled = False


def detach_start_of_text(unet: Any) -> None:
    """Let no gradient through keys and values of the beginning of text (Kumari et al. 2023).

    Every prompt begins with it and most attention rests on it: trained, it would draw the concepts
    into prompts that do not name them. Values stay the same.

    Args:
        unet: UNet2DConditionModel; its cross-attention layers get hooks.
    """

    def detached(_module: Any, _inputs: Any, output_BLD: torch.Tensor) -> torch.Tensor:
        return torch.cat([output_BLD[:, :1].detach(), output_BLD[:, 1:]], dim=1)

    for name, module in unet.named_modules():
        if is_target(name, KEYS_AND_VALUES):
            module.register_forward_hook(detached)
