"""Tiny untrained models in the exact folder layouts of SD 1.5, SD 2.1 and SDXL, for tests of
everything that loads them.
"""

from __future__ import annotations

from pathlib import Path

WORDS = [
    "a",
    "photo",
    "of",
    "the",
    "man",
    "woman",
    "cat",
    "dog",
    "chef",
    "beach",
    "hat",
    "jacket",
    "on",
    "left",
    "and",
    "right",
    "in",
    "front",
    "one",
    "my",
    "good",
    "rendering",
    "'",
    "s",
    "white",
]
_HIDDEN = 32


def write_tiny_backbone(root: Path, *, family: str, seed: int = 0, kl: bool = True) -> dict:
    """Write `pipeline/` and one `clip*/` per text encoder; return the keyword arguments of their
    `BaseModels`.
    """
    import torch
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    from clif_exp.toonworld.tokenizer import build_tokenizer

    torch.manual_seed(seed)
    tokenizer = build_tokenizer(WORDS)
    sdxl = family == "sdxl"
    clip, encoder = _clip_and_encoder(tokenizer, layers=2, drop=1 if family == "sd21" else 0)
    _write_clip(root / "clip", clip, tokenizer)
    shared = {
        "vae": _vae(kl),
        "text_encoder": encoder,
        "tokenizer": tokenizer,
        "scheduler": _scheduler(family),
    }
    contrastive = {"text_encoder": str(root / "clip")}
    if sdxl:
        clip_2, encoder_2 = _clip_and_encoder(tokenizer, layers=3, projected=True)
        _write_clip(root / "clip_2", clip_2, tokenizer)
        contrastive["text_encoder_2"] = str(root / "clip_2")
        pipeline = StableDiffusionXLPipeline(
            **shared,
            text_encoder_2=encoder_2,
            tokenizer_2=tokenizer,
            unet=_unet(2 * _HIDDEN, sdxl=True),
            add_watermarker=False,
        )
    else:
        pipeline = StableDiffusionPipeline(
            **shared,
            unet=_unet(_HIDDEN),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(root / "pipeline", safe_serialization=True)
    return {
        "family": family,
        "path": str(root / "pipeline"),
        "contrastive": contrastive,
        "resolution": 32,
    }


def _clip_and_encoder(tokenizer, *, layers: int, drop: int = 0, projected: bool = False):
    from transformers import (
        CLIPConfig,
        CLIPModel,
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
    )

    def text_config(count: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=_HIDDEN,
            intermediate_size=64,
            projection_dim=24,
            num_hidden_layers=count,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )

    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        projection_dim=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    clip = CLIPModel(
        CLIPConfig(
            text_config=text_config(layers).to_dict(),
            vision_config=vision.to_dict(),
            projection_dim=24,
        )
    )
    encoder = (CLIPTextModelWithProjection if projected else CLIPTextModel)(
        text_config(layers - drop)
    )
    target = encoder.text_model if projected else encoder
    own = {
        key.removeprefix("text_model."): value
        for key, value in clip.text_model.state_dict().items()
    }
    target.load_state_dict(
        {key: own[key.removeprefix("text_model.")] for key in target.state_dict()}
    )
    if projected:
        encoder.text_projection.load_state_dict(clip.text_projection.state_dict())
    return clip, encoder


def _scheduler(family: str):
    """As the family's repository has it: what the U-Net predicts is said there."""
    from diffusers import DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler

    from clif_exp.toonworld.architectures import build_sampler

    if family == "toonworld":
        return build_sampler()
    betas = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
    }
    if family == "sd15":
        return PNDMScheduler(
            **betas, skip_prk_steps=True, set_alpha_to_one=False, prediction_type="epsilon"
        )
    if family == "sd21":
        return DDIMScheduler(
            **betas, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction"
        )
    return EulerDiscreteScheduler(**betas, timestep_spacing="leading", prediction_type="epsilon")


def _write_clip(folder: Path, clip, tokenizer) -> None:
    from transformers import CLIPImageProcessor

    clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = clip.config.vision_config.image_size
    CLIPImageProcessor(
        size={"height": size, "width": size},
        crop_size={"height": size, "width": size},
        do_center_crop=False,
    ).save_pretrained(folder)


def _vae(kl: bool):
    from diffusers import AutoencoderKL, AutoencoderTiny

    if kl:
        return AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=32,
        )
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )


def _unet(cross_attention_dim: int, *, sdxl: bool = False):
    from diffusers import UNet2DConditionModel

    extra = (
        {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 24,
            "transformer_layers_per_block": (1, 2),
            "use_linear_projection": True,
        }
        if sdxl
        else {}
    )
    return UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=4,
        **extra,
    )


def write_concepts_and_manifests(
    root: Path, *, names: tuple[str, ...] = ("rick", "morty"), size: int = 32, seed: int = 0
) -> dict:
    """Write a small concept set and G, R and M manifests with real (plain) images, in curation's
    layout.
    """
    import json

    import numpy as np
    from PIL import Image

    from clif_exp.concepts.concept import Concept, ConceptImage, ConceptSet

    rng = np.random.default_rng(seed)
    colour = {name: rng.integers(0, 200, 3) for name in names}

    def image(path: Path, patches: list) -> None:
        pixels = np.full((size, size, 3), 255, np.uint8)
        for (x0, y0, x1, y1), rgb in patches:
            pixels[y0:y1, x0:x1] = np.clip(
                rgb + rng.integers(-20, 20, (y1 - y0, x1 - x0, 3)), 0, 255
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    concepts = []
    for name in names:
        files = [root / "concepts" / name / f"{i}.png" for i in range(3)]
        for file in files:
            image(file, [((4, 4, size - 4, size - 4), colour[name])])
        concepts.append(
            Concept(
                name=name,
                class_word="man",
                images=tuple(ConceptImage(file=f) for f in files),
                parts=("hat",),
            )
        )
    half = size // 2
    boxes = {"left": [2, 4, half - 2, size - 4], "right": [half + 2, 4, size - 2, size - 4]}
    contexts = {word: rng.integers(0, 255, 3) for word in ("chef", "cat", "beach")}
    manifests = {}
    for kind in ("G", "R", "M"):
        lines = []
        items = (
            [(a, b) for a in names for b in names if a != b]
            if kind == "M"
            else [(name, word) for word in contexts for name in names]
        )
        for a, b in items:
            for side, other in (("left", "right"), ("right", "left")):
                file = f"images/{len(lines):06d}.png"
                other_rgb = colour[b] if kind == "M" else contexts[b]
                image(root / kind / file, [(boxes[side], colour[a]), (boxes[other], other_rgb)])
                own = f"<{a}>'s hat" if kind == "R" else f"<{a}>"
                that = f"<{b}>" if kind == "M" else f"a {b}"
                left, right = (own, that) if side == "left" else (that, own)
                lines.append(
                    {
                        "file": file,
                        "caption": f"a photo of {left} on the left and {right} on the right",
                        "kind": kind,
                        "seed": [seed, kind, len(lines)],
                        "group": f"{b}|{side}",
                        "sources": [
                            {
                                "concept": a,
                                "context": None,
                                "part": "hat" if kind == "R" else None,
                                "name": own,
                                "side": side,
                                "scale": 0.8,
                                "flip": False,
                                "source": "",
                                "box": boxes[side],
                                "mask": None,
                            },
                            {
                                "concept": b if kind == "M" else None,
                                "context": None if kind == "M" else b,
                                "part": None,
                                "name": that,
                                "side": other,
                                "scale": 0.8,
                                "flip": False,
                                "source": "",
                                "box": boxes[other],
                                "mask": None,
                            },
                        ],
                    }
                )
        (root / kind / "manifest.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines)
        )
        manifests[kind] = root / kind
    return {
        "concepts": ConceptSet(name="tiny", root=root / "concepts", concepts=tuple(concepts)),
        "manifests": manifests,
    }
