"""Loads the base models of one ``model=`` choice through their libraries' own loaders.

Nothing heavy is imported before a function needs it. Weights are read from safetensors only, and no
code that comes with a model is ever run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.checks import check_same_text_tower, check_same_tokenizer
from clif_exp.base_models.families import family_of_pipeline
from clif_exp.base_models.spec import BaseModels

if TYPE_CHECKING:
    import torch
    from torch import Tensor


_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
}


def be_quiet() -> None:
    """Let the libraries show errors only: bars and notices would drown what is wrong with an input.

    To be called before they are imported.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Load without the bars of shards and components; the hub's download bars stay."""
    import diffusers
    import transformers

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    shown = [library.is_progress_bar_enabled() for library in libraries]
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)
        for library, was_shown in zip(libraries, shown, strict=True):
            if was_shown:
                library.enable_progress_bar()


def load_pipeline(
    spec: BaseModels, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Any:
    """Load the stock diffusers pipeline: no safety checker, silent, in eval mode, all frozen."""
    import diffusers
    import torch

    pipeline_class = getattr(diffusers, spec.record.pipeline)
    with quiet_loading():
        pipeline = pipeline_class.from_pretrained(
            spec.path,
            revision=spec.revision,
            dtype=dtype or torch.float32,
            use_safetensors=True,
            **spec.record.options,
        )
    pipeline.set_progress_bar_config(disable=True)
    encoders = [encoder for _, encoder in text_encoders_of(pipeline).values()]
    for part in (pipeline.unet, pipeline.vae, *encoders):
        part.requires_grad_(False).eval()
    draw_at(pipeline, spec.resolution)
    pool_at_end(text_encoders_of(pipeline))
    pipeline = pipeline.to(device)
    prefer_fast_attention(pipeline, device=device)
    return pipeline


def draw_at(pipeline: Any, resolution: int) -> None:
    """Let a stock pipeline draw images of the side that its U-Net is trained at, in px.

    By default it draws the size that the base model was made for.
    """
    side = resolution // pipeline.vae_scale_factor
    if pipeline.unet.config.sample_size == side:
        return
    pipeline.unet.register_to_config(sample_size=side)
    if hasattr(pipeline, "default_sample_size"):  # SDXL's, read when it was built
        pipeline.default_sample_size = side


def pool_at_end(encoders: Mapping[str, tuple[Any, Any]]) -> None:
    """Let text encoders pool where their tokenizer ends a text.

    The configs of published CLIPs, SDXL's among them, state an end of text (2) that is none.
    transformers then pools at the highest id, which an added token has (its #24777).

    Args:
        encoders: name -> (tokenizer, encoder).
    """
    from clif_exp.base_models.text_tuning import tower

    for tokenizer, encoder in encoders.values():
        tower(encoder).eos_token_id = tokenizer.eos_token_id


def prefer_fast_attention(pipeline: Any, *, device: str | torch.device) -> None:
    """Use plain attention on CPUs, where torch's fused kernel is 1.3 to 2.1 times slower."""
    import torch
    from diffusers.models.attention_processor import AttnProcessor

    if torch.device(device).type != "cpu":
        return
    pipeline.unet.set_attn_processor(AttnProcessor())
    for _, encoder in text_encoders_of(pipeline).values():
        encoder.set_attn_implementation("eager")


def text_encoders_of(pipeline: Any) -> dict[str, tuple[Any, Any]]:
    """Return encoder name -> (tokenizer, text encoder) of a loaded pipeline."""
    return {
        name: (getattr(pipeline, encoder.tokenizer), getattr(pipeline, name))
        for name, encoder in family_of_pipeline(type(pipeline).__name__).encoders.items()
    }


def load_text_encoders(
    spec: BaseModels,
    *,
    only: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> dict[str, tuple[Any, Any]]:
    """Load a pipeline's text side only: encoder name -> (tokenizer, text encoder), frozen.

    Args:
        spec: resolved base models.
        only: names of encoders; None: all.
        device: torch device.
        dtype: None: fp32.
    """
    import torch
    import transformers

    source: dict[str, Any] = {"pretrained_model_name_or_path": spec.path, "revision": spec.revision}
    loaded: dict[str, tuple[Any, Any]] = {}
    for name in spec.record.encoders if only is None else only:
        record = spec.record.encoders[name]
        tokenizer = load_tokenizer(spec, name)
        with quiet_loading():
            encoder: Any = getattr(transformers, record.model_class).from_pretrained(
                **source, subfolder=name, use_safetensors=True, dtype=dtype or torch.float32
            )
        if torch.device(device).type == "cpu":
            encoder.set_attn_implementation("eager")
        loaded[name] = (tokenizer, encoder.to(device).requires_grad_(False).eval())
    pool_at_end(loaded)
    return loaded


def load_tokenizer(spec: BaseModels, encoder: str = "text_encoder") -> Any:
    """Load a pipeline's tokenizer alone."""
    from transformers import CLIPTokenizer

    source: dict[str, Any] = {"revision": spec.revision}
    folder = spec.record.encoders[encoder].tokenizer
    return CLIPTokenizer.from_pretrained(str(spec.path), subfolder=folder, **source)


def text_layers(spec: BaseModels, encoder: str) -> tuple[int, int]:
    """Return how many layers a pipeline's text encoder has, and how many reach the U-Net."""
    from transformers import CLIPTextConfig

    loader: Any = CLIPTextConfig
    config = loader.from_pretrained(str(spec.path), subfolder=encoder, revision=spec.revision)
    layers = int(config.num_hidden_layers)
    return layers, spec.record.layers_read(encoder, layers=layers)


def load_contrastive(
    spec: BaseModels,
    encoder: str = "text_encoder",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    check: bool = True,
) -> tuple[Any, Any, Any]:
    """Load the CLIP of one text encoder and check that its text tower is the pipeline's.

    Returns:
        (CLIPModel, tokenizer, image processor); the model frozen, in eval mode.

    Raises:
        ValueError: tokenizer, token table or a shared layer differ from the pipeline's.
    """
    import torch
    from transformers import CLIPImageProcessor, CLIPModel

    checkpoint = spec.contrastive[encoder]
    with quiet_loading():
        model: Any = CLIPModel.from_pretrained(
            checkpoint, use_safetensors=True, dtype=dtype or torch.float32
        )
    tokenizer, pipeline_encoder = load_text_encoders(spec, only=[encoder])[encoder]
    if check:
        check_same_text_tower(
            model, pipeline_encoder, what=f"model.contrastive.{encoder} ({checkpoint})"
        )
        check_same_tokenizer(
            checkpoint, tokenizer, what=f"model.contrastive.{encoder} ({checkpoint})"
        )
    if torch.device(device).type == "cpu":
        model.set_attn_implementation("eager")
    processor = CLIPImageProcessor.from_pretrained(checkpoint)
    return model.to(device).requires_grad_(False).eval(), tokenizer, processor


def encode_images(
    vae: Any, pixels_BCHW: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Encode images to the latents that the U-Net was trained on.

    Args:
        vae: AutoencoderKL or AutoencoderTiny.
        pixels_BCHW: float [B, 3, H, W] in [-1, 1].
        generator: samples the posterior (AutoencoderKL); None takes its mode.

    Returns:
        Scaled latents, [B, C, H / 8, W / 8], in the autoencoder's dtype.
    """
    encoded = vae.encode(pixels_BCHW.to(vae.device, vae.dtype))
    if hasattr(encoded, "latent_dist"):
        latents = (
            encoded.latent_dist.mode()
            if generator is None
            else encoded.latent_dist.sample(generator)
        )
        latents = latents - (getattr(vae.config, "shift_factor", None) or 0.0)
    else:
        latents = encoded.latents
    return latents * vae.config.scaling_factor
