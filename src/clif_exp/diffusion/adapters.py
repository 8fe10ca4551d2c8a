"""The shared LoRA: put on a U-Net, taken off as the file that diffusers loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


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

    for target in target_modules:
        layers = [(n, m) for n, m in unet.named_modules() if n.endswith(f".{target}") and hasattr(m, "in_features")]
        if not layers:
            known = sorted({n.split(".")[-1] if not n[-1].isdigit() else ".".join(n.split(".")[-2:]) for n, m in
                            unet.named_modules() if isinstance(m, torch.nn.Linear) and "attn" in n})  # fmt: skip
            raise ValueError(f"diffusion.target_modules: no layer ends in {target!r}. Attention layers here: {', '.join(known)}.")
        name, narrow = min(layers, key=lambda item: min(item[1].in_features, item[1].out_features))
        width = min(narrow.in_features, narrow.out_features)
        if rank > width:
            raise ValueError(f"diffusion.rank: found {rank}, but {name} is {width} wide. Choose a rank of at most {width}.")
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


def save_lora(unet, out: Path, *, pipeline_class) -> None:
    """Write the adapter as pytorch_lora_weights.safetensors, with its alpha, which is lost without the metadata."""
    from peft.utils import get_peft_model_state_dict

    metadata = unet.peft_config["default"].to_dict()
    # Sets come in another order in every process; the same weights shall be the same file.
    metadata = {key: sorted(value) if isinstance(value, set) else value for key, value in metadata.items()}
    pipeline_class.save_lora_weights(
        out,
        unet_lora_layers=get_peft_model_state_dict(unet),
        unet_lora_adapter_metadata=metadata,
    )
