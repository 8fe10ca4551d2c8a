"""Architectures and file layouts of ToonWorld's base models.

They are small instances of classes of diffusers, transformers and segment-anything; every size that
a recipe, a loader or a test needs is defined here. `write_random_weights` saves untrained models in
the layout of the shipped weights, for tests and for code that must run before weights exist.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clif_exp.base_models.sam import build_small_sam

# Pixels. Latents are 8 x 16 x 16: Stable Diffusion's factor of 8, twice its channels.
RESOLUTION = 128
LATENT_CHANNELS = 8
TEXT_WIDTH = 192
FOLDERS = ("pipeline", "clip", "sam", "oracle", "judge_clip")


def build_tokenizer() -> Any:
    """Build the world's `CLIPTokenizer`: each word of the caption grammar is one token."""
    from clif_exp.toonworld.grammar import VOCABULARY
    from clif_exp.toonworld.tokenizer import build_tokenizer

    return build_tokenizer(VOCABULARY)


def clip_config(tokenizer: Any, *, judge: bool = False) -> Any:
    """`CLIPConfig` of stage 1's CLIP, or of the judge's, of other width and patch size."""
    from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

    width, text_layers, vision_layers, heads, patch = (
        (160, 3, 4, 5, 8) if judge else (TEXT_WIDTH, 3, 4, 6, 16)
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=text_layers,
        num_attention_heads=heads,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=vision_layers,
        num_attention_heads=heads,
        image_size=RESOLUTION // 2 if judge else RESOLUTION,
        patch_size=patch,
    )
    return CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=TEXT_WIDTH
    )


def build_clip(tokenizer: Any, *, judge: bool = False) -> Any:
    """Build an untrained `CLIPModel`.

    Plain attention: torch's fused one is slower for models this small on a CPU.
    """
    from transformers import CLIPModel

    return CLIPModel._from_config(clip_config(tokenizer, judge=judge), attn_implementation="eager")


def build_image_processor(model: Any) -> Any:
    """Build a `CLIPImageProcessor` that resizes to the model's size and scales to [-1, 1]."""
    from transformers import CLIPImageProcessor

    size = model.config.vision_config.image_size
    return CLIPImageProcessor(
        size={"height": size, "width": size},
        crop_size={"height": size, "width": size},
        do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def build_text_encoder(clip: Any) -> Any:
    """Build the pipeline's `CLIPTextModel`, a copy of a `CLIPModel`'s text tower."""
    from transformers import CLIPTextModel

    encoder = CLIPTextModel._from_config(clip.config.text_config, attn_implementation="eager")
    own = encoder.state_dict()
    tower = {
        key.removeprefix("text_model."): value
        for key, value in clip.state_dict().items()
        if key.startswith("text_model.")
    }
    encoder.load_state_dict({key: tower[key.removeprefix("text_model.")].clone() for key in own})
    return encoder


def build_vae() -> Any:
    """Build an untrained `AutoencoderKL` of factor 8.

    Narrow at high resolution and wide at low resolution, to be affordable on CPUs. Eight latent
    channels instead of Stable Diffusion's four: with four, faces and patterns of 128 px drawings
    were lost after any training time that a CPU allows, and they do not change a U-Net's cost.
    """
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 128, 256),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=16,
        sample_size=RESOLUTION,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def build_unet() -> Any:
    """Build an untrained `UNet2DConditionModel` over 16 x 16 latents, with attention at 8 x 8 only.

    As in SDXL the finest level has no attention, which is costly there. There is no third level at
    4 x 4: it would be mostly parameters, and Muon's cost grows with their number.
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=RESOLUTION // 8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(96, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # in SD-style configurations this is the number of heads
        norm_num_groups=16,
    )


def build_scheduler() -> Any:
    """Build the U-Net's training schedule: v-prediction with a terminal SNR of zero.

    With it (Lin et al. 2023) canvases can be plain white.
    """
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        # diffusers' default clips x0 to [-1, 1], which ruins unit-variance latents
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build_sampler() -> Any:
    """Build the pipeline's sampler, the stochastic DPM-Solver++ (Lu et al. 2022).

    "A next to B" leaves open who stands on the left. A deterministic sampler starts from the mean
    of both images and often stays there: two figures with the traits of both. Fresh noise in
    every step settles the choice.
    """
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler.from_config(
        build_scheduler().config, algorithm_type="sde-dpmsolver++"
    )


def write_pipeline(out: Path, *, tokenizer: Any, text_encoder: Any, unet: Any, vae: Any) -> None:
    """Save a `StableDiffusionPipeline` in fp16, in files of at most 15 MB."""
    from diffusers import StableDiffusionPipeline

    pipeline: Any = StableDiffusionPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.half(),
        unet=unet.half(),
        vae=vae.half(),
        scheduler=build_sampler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out, safe_serialization=True, max_shard_size="14MB")
    # transformers loads in the stored dtype, diffusers in fp32: a stock pipeline would mix the two.
    _edit_json(out / "text_encoder" / "config.json", dtype="float32")
    for part in ("unet", "vae"):
        _edit_json(out / part / "config.json", _name_or_path=None)  # a path of the training machine


def write_clip(out: Path, *, tokenizer: Any, clip: Any) -> None:
    """Save a `CLIPModel` in fp16 with its `CLIPTokenizer` and `CLIPImageProcessor`."""
    clip.half().save_pretrained(out, max_shard_size="14MB")
    _edit_json(out / "config.json", dtype="float32")
    tokenizer.save_pretrained(out)
    # How the tokenizer was loaded for training is of no use to others.
    _edit_json(out / "tokenizer_config.json", is_local=None, local_files_only=None)
    build_image_processor(clip).save_pretrained(out)


def _edit_json(path: Path, **changes: str | None) -> None:
    """Set keys of a JSON file; None removes the key."""
    content = json.loads(path.read_text()) | changes
    kept = {key: value for key, value in content.items() if not (key in changes and value is None)}
    path.write_text(json.dumps(kept, indent=2) + "\n")


def write_sam(out: Path, *, sam: Any) -> None:
    """Save SAM's weights in fp16 as `model.safetensors`; `build_small_sam(out)` loads them."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: value.half().contiguous() for key, value in sam.state_dict().items()},
        out / "model.safetensors",
    )


def write_random_weights(out: Path, *, seed: int = 0) -> None:
    """Write untrained base models in the layout of the shipped ones (`FOLDERS`)."""
    import torch

    from clif_exp.toonworld.oracle import build_oracle, write_oracle

    out = Path(out)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = build_tokenizer()
        clip = build_clip(tokenizer)
        write_pipeline(
            out / "pipeline",
            tokenizer=tokenizer,
            text_encoder=build_text_encoder(clip),
            unet=build_unet(),
            vae=build_vae(),
        )
        write_clip(out / "clip", tokenizer=tokenizer, clip=clip)
        write_clip(out / "judge_clip", tokenizer=tokenizer, clip=build_clip(tokenizer, judge=True))
        write_sam(out / "sam", sam=build_small_sam(resolution=RESOLUTION))
        write_oracle(out / "oracle", oracle=build_oracle())
