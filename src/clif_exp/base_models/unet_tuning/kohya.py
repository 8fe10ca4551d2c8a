"""A LoRA under the names that ComfyUI and A1111 read (kohya's)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clif_exp.base_models.families import Family
from clif_exp.base_models.unet_tuning.kind import ExportFacts

if TYPE_CHECKING:
    from torch import Tensor


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
    for key, value in (dict(lora) | _zero_out_proj(lora)).items():
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


def _zero_out_proj(lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return zero updates of `out_proj` for text encoders whose attention is trained without it.

    diffusers recognises kohya's text encoders by this layer, and without it silently drops the
    updates of queries, keys and values.
    """
    added: dict[str, Tensor] = {}
    for key, value in lora.items():
        if (
            key.startswith("text_encoder")
            and ".self_attn." in key
            and ".out_proj." not in key
            and key.endswith(".lora_A.weight")
        ):
            name = key[: key.index(".self_attn.")] + ".self_attn.out_proj.lora_"
            if f"{name}A.weight" not in lora:
                added |= {
                    f"{name}A.weight": value.new_zeros(value.shape),
                    f"{name}B.weight": value.new_zeros(value.shape[::-1]),
                }
    return added


def kohya_metadata(*, rank: int, alpha: float, facts: ExportFacts) -> dict[str, str]:
    """Return the header that kohya's tools and web interfaces show."""
    return {
        "format": "pt",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_base_model_version": facts.family.kohya_model,
        "ss_sd_model_name": facts.base_model,
        "ss_v2": str(facts.family.kohya_v2),
        "ss_tag_frequency": json.dumps({"clif_exp": dict.fromkeys(facts.triggers, 1)}),
    }
