"""The formats: diffusers LoRA, kohya LoRA, textual inversion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def to_kohya(
    lora: Mapping[str, Tensor], *, alphas: Mapping[str, float], two_encoders: bool = False
) -> dict[str, Tensor]:
    """Rename a diffusers LoRA for ComfyUI and A1111, with its alpha (diffusers' own converter
    writes the rank instead).

    Args:
        lora: diffusers state dict, keys ``<model>.<module>.lora_A.weight`` (down) and
            ``.lora_B.weight`` (up); models are unet, text_encoder and text_encoder_2.
        alphas: model -> alpha; its update is scaled by alpha / rank.
        two_encoders: SDXL, whose encoders are called te1 and te2 instead of te.

    Returns:
        Keys ``lora_unet_<module with _>.lora_down.weight``, ``.lora_up.weight`` and ``.alpha``
        (scalar); ``lora_te_...`` for texts.
    """
    import torch

    first = "lora_te1" if two_encoders else "lora_te"
    names = {"unet": "lora_unet", "text_encoder": first, "text_encoder_2": "lora_te2"}
    kohya: dict[str, Tensor] = {}
    for key, value in (dict(lora) | _silent_out_proj(lora)).items():
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


def _silent_out_proj(lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return zero updates of `out_proj` for text encoders whose attention is trained without it.

    diffusers tells kohya's text encoders by this layer, and without it silently drops those of
    queries, keys and values.
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


def read_lora(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a diffusers LoRA file: its tensors and its adapter metadata (``unet.r``,
    ``text_encoder.lora_alpha``, ...).

    Raises:
        ValueError: the file says nothing of its alpha.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(str(file), framework="pt") as opened:
        metadata = json.loads((opened.metadata() or {}).get("lora_adapter_metadata", "{}"))
    tensors = load_file(str(file))
    for model in dict.fromkeys(key.split(".")[0] for key in tensors):
        if f"{model}.lora_alpha" not in metadata:
            raise ValueError(
                f"{file}: has no adapter metadata of {model}, so its alpha is not known. Train it"
                " again or add the metadata."
            )
    return tensors, metadata


def kohya_metadata(
    *, rank: int, alpha: float, base_model: str, family: str, triggers: Mapping[str, str]
) -> dict[str, str]:
    """Return the header that kohya's tools and web interfaces show."""
    version = {"sd15": "sd_v1", "sd21": "sd_v2", "sdxl": "sdxl_base_v1-0"}.get(family, family)
    return {
        "format": "pt",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_base_model_version": version,
        "ss_sd_model_name": base_model,
        "ss_v2": str(family == "sd21"),
        "ss_tag_frequency": json.dumps({"clif_exp": dict.fromkeys(triggers, 1)}),
    }


def textual_inversion(name: str, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of one concept's textual-inversion file.

    One encoder: the placeholder is the key, as diffusers' `load_textual_inversion(file)` expects;
    A1111 and ComfyUI read such files by their file name. Two encoders (SDXL): `clip_l` and
    `clip_g`, as all three tools expect.
    """
    if len(rows) == 1:
        return {f"<{name}>": next(iter(rows.values())).contiguous()}
    names = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
    return {names[encoder]: value.contiguous() for encoder, value in rows.items()}
