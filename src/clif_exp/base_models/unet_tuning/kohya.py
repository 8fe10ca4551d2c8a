"""A LoRA under the names that ComfyUI and A1111 read (kohya's)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from clif_exp.base_models.families import Family

if TYPE_CHECKING:
    from torch import Tensor

_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")  # all of one width in CLIP


def to_kohya(
    lora: Mapping[str, Tensor], *, alphas: Mapping[str, float], family: Family
) -> dict[str, Tensor]:
    """Rename a diffusers LoRA, with its alpha (diffusers' own converter writes the rank instead).

    Args:
        lora: diffusers state dict, keys ``<model>.<module>.lora_A.weight`` (down) and
            ``.lora_B.weight`` (up); a model is unet or a text encoder of the family.
        alphas: model -> alpha; its update is scaled by alpha / rank.
        family: says how kohya calls its text encoders.

    Returns:
        Keys ``lora_unet_<module with _>.lora_down.weight``, ``.lora_up.weight`` and ``.alpha``
        (scalar); ``lora_te_...`` for text encoders.

    Raises:
        ValueError: a key of another form.
    """
    import torch

    names = {"unet": "lora_unet"} | {
        name: encoder.kohya_prefix for name, encoder in family.encoders.items()
    }
    kohya: dict[str, Tensor] = {}
    for key, value in (dict(lora) | _zeros_beside(lora)).items():
        module, _, suffix = key.rpartition(".lora_")
        direction = {"A.weight": "lora_down", "B.weight": "lora_up"}.get(suffix)
        model, _, layer = module.partition(".")
        if model not in names or direction is None:
            raise ValueError(
                f"LoRA key {key!r}: expected '<model>.<module>.lora_A.weight' or '.lora_B.weight',"
                f" model of {list(names)}."
            )
        name = f"{names[model]}_{layer.replace('.', '_')}"
        kohya[f"{name}.{direction}.weight"] = value.contiguous()
        kohya[f"{name}.alpha"] = torch.tensor(float(alphas[model]))
    return kohya


def _zeros_beside(lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return zero updates for the layers of a text encoder's attention that are not trained.

    A1111 applies those of SD 2.1 and of SDXL's second encoder only where queries, keys, values and
    output are all there, and diffusers recognises kohya's text encoders by the output; without them
    both silently drop what was trained.
    """
    added: dict[str, Tensor] = {}
    for key, value in lora.items():
        attention, found, layer = key.partition(".self_attn.")
        if not found or not key.startswith("text_encoder") or not layer.endswith("A.weight"):
            continue
        for missing in _ATTENTION:
            name = f"{attention}.self_attn.{missing}.lora_"
            if f"{name}A.weight" not in lora:
                added |= {
                    f"{name}A.weight": value.new_zeros(value.shape),
                    f"{name}B.weight": value.new_zeros(value.shape[::-1]),
                }
    return added
