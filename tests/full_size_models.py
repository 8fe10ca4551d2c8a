"""SD 1.5, SD 2.1 and SDXL at full size from their public configs, with random bf16 weights."""

from __future__ import annotations

import copy
from typing import Any

_CLASSIC = {
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
UNETS: dict[str, dict[str, Any]] = {
    "sd15": _CLASSIC | {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "sd21": (
        _CLASSIC
        | {
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        }
    ),
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 2048,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
_H = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "projection_dim": 1024,
}
_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
}
_VISION = {
    "L": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
    "H": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
    },
    "G": {
        "hidden_size": 1664,
        "intermediate_size": 8192,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
    },
}
TEXTS = {
    "L": _L | {"hidden_act": "quick_gelu"},
    "H": _H | {"hidden_act": "gelu"},
    "G": _G | {"hidden_act": "gelu"},
}
# Which CLIP each pipeline's text encoders come from, and how many layers it leaves out.
ENCODERS = {
    "sd15": {"text_encoder": ("L", 0)},
    "sd21": {"text_encoder": ("H", 1)},
    "sdxl": {"text_encoder": ("L", 0), "text_encoder_2": ("G", 0)},
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


def text_config(size: str, tokenizer: Any = None, *, drop: int = 0) -> Any:
    """CLIP's text config; a tokenizer of fewer words keeps its own ids in the full table."""
    from transformers import CLIPTextConfig

    ids = (
        {
            name: getattr(tokenizer, name)
            for name in ("bos_token_id", "eos_token_id", "pad_token_id")
        }
        if tokenizer
        else {}
    )
    settings = TEXTS[size] | {"num_hidden_layers": TEXTS[size]["num_hidden_layers"] - drop}
    return CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **settings, **ids)


def build_unet(family: str) -> Any:
    """The U-Net on the meta device: shapes without memory."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(**UNETS[family])


def build_text_encoder(family: str, name: str, tokenizer: Any = None) -> Any:
    """A pipeline's text encoder on the meta device."""
    import torch
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    size, drop = ENCODERS[family][name]
    model_class = CLIPTextModelWithProjection if name == "text_encoder_2" else CLIPTextModel
    with torch.device("meta"):
        return model_class(text_config(size, tokenizer, drop=drop))


def build_clip(size: str, tokenizer: Any = None) -> Any:
    """Both towers of a CLIP on the meta device."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

    width = TEXTS[size]["projection_dim"]
    vision = CLIPVisionConfig(
        patch_size=14,
        image_size=224,
        projection_dim=width,
        hidden_act=TEXTS[size]["hidden_act"],
        **_VISION[size],
    )
    text = text_config(size, tokenizer)
    with torch.device("meta"):
        return CLIPModel(
            CLIPConfig(
                text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=width
            )
        )


def fill(model: Any, *, dtype: Any = None) -> Any:
    """Give a meta model small weights, repeated noise: billions of fresh numbers take minutes."""
    import torch

    model.to_empty(device="cpu") if dtype is None else model.to(dtype).to_empty(device="cpu")
    noise = 0.02 * torch.randn(2**20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
                continue
            flat, some = parameter.view(-1), noise.to(parameter.dtype)
            for start in range(0, len(flat), len(some)):
                flat[start : start + len(some)] = some[: len(flat) - start]
        for name, buffer in model.named_buffers():
            if "position_ids" in name:
                buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
        if hasattr(model, "logit_scale"):
            model.logit_scale.fill_(4.6)
    return model.requires_grad_(False).eval()


def build_pipeline(family: str, tokenizer: Any) -> Any:
    """A stock pipeline of full size, in bf16."""
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
    )

    with torch.device("meta"):
        vae = AutoencoderKL(**VAE)
    kind = "v_prediction" if family == "sd21" else "epsilon"
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=kind,
        clip_sample=False,
    )
    encoders = {
        name: fill(build_text_encoder(family, name, tokenizer), dtype=torch.bfloat16)
        for name in ENCODERS[family]
    }
    parts = {
        "vae": fill(vae, dtype=torch.bfloat16),
        "unet": fill(build_unet(family), dtype=torch.bfloat16),
        "scheduler": scheduler,
    }
    if family == "sdxl":
        second = copy.deepcopy(tokenizer)  # as from files: tokens are added to each of them
        return StableDiffusionXLPipeline(
            **parts, **encoders, tokenizer=tokenizer, tokenizer_2=second, add_watermarker=False
        )
    safety = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(**parts, **encoders, tokenizer=tokenizer, **safety)
