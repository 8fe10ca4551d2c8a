"""Segment Anything: official checkpoints, and ToonWorld's small SAM of the same classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.files import file_digest

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor

_MODEL_TYPES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


def load_sam(
    checkpoint: str | None, *, model_type: str | None = None, sha256: str | None = None
) -> Sam:
    """Load an official SAM checkpoint, or ToonWorld's small SAM from its folder.

    Args:
        checkpoint: an official .pth or .safetensors file, "owner/repository/file" on the hub, or a
            folder with model.safetensors for ToonWorld's sizes.
        model_type: vit_b, vit_l or vit_h; None reads it off the weights.
        sha256: hex digest that the file must have; None skips the check.

    Returns:
        The model on the CPU, in eval mode.

    Raises:
        ValueError: missing, unreadable or unexpected weights.
    """
    path = resolve_checkpoint(checkpoint)
    if path.is_dir():
        try:
            return build_small_sam(path)
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(
                f"segmenter.settings.checkpoint: {path} holds no small SAM ({_first_line(error)})."
            ) from None
    if sha256 is not None:
        found = file_digest(path).hex()
        if found != sha256.lower():
            raise ValueError(
                f"segmenter.settings.sha256: {path.name} has {found}, not {sha256}. Download it"
                " again."
            )
    weights = _read_weights(path)
    try:
        model_type = model_type or _MODEL_TYPES[weights["image_encoder.pos_embed"].shape[-1]]
        return _build(model_type, weights)
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"segmenter.settings.checkpoint: {path.name} is not SAM's {model_type or 'format'}"
            f" ({_first_line(error)})."
        ) from None


def _build(model_type: str, weights: dict[str, Tensor]) -> Sam:
    from segment_anything import sam_model_registry

    if model_type not in sam_model_registry:
        known = ", ".join(name for name in sam_model_registry if name != "default")
        raise ValueError(f"segmenter.settings.model_type: found {model_type!r}. Choose {known}.")
    # The builder itself unpickles without weights_only: give it no file, load the tensors
    # ourselves.
    model = sam_model_registry[model_type](checkpoint=None)
    model.load_state_dict(weights)
    return model.eval()


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"segmenter.settings.checkpoint: {path} cannot be read ({_first_line(error)}). Download"
            " it again."
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def is_hub_file(checkpoint: str) -> bool:
    """Return whether a checkpoint's name means a file on the hub: "owner/repository/file"."""
    return (
        not Path(checkpoint).expanduser().exists()
        and not checkpoint.startswith((".", "/", "~"))
        and checkpoint.partition("@")[0].count("/") >= 2
    )


def resolve_checkpoint(checkpoint: str | None) -> Path:
    """Return a checkpoint's local path.

    Args:
        checkpoint: a path, or "owner/repository/file" on the Hugging Face hub, the file in folders
            or not, optionally with "@revision"; downloaded if need be.

    Raises:
        ValueError: it is neither.
    """
    if checkpoint is None:
        raise ValueError(
            "segmenter.settings.checkpoint: none given, and model= names none. Give a SAM"
            " checkpoint, or segmenter=felzenszwalb."
        )
    path = Path(checkpoint).expanduser()
    if path.exists():
        return path
    if is_hub_file(checkpoint):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        repository, _, revision = checkpoint.partition("@")
        owner, name, file = repository.split("/", 2)
        try:
            return Path(hf_hub_download(f"{owner}/{name}", file, revision=revision or None))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise ValueError(
                f"segmenter.settings.checkpoint: {checkpoint} cannot be fetched"
                f" ({_first_line(error)}). Give a local file, or segmenter=felzenszwalb."
            ) from None
    raise ValueError(
        f"segmenter.settings.checkpoint: {checkpoint} does not exist. Give a file, or"
        " owner/repository/file of the hub."
    )


def build_small_sam(weights: Path | None = None, *, resolution: int | None = None) -> Sam:
    """Build a small SAM of segment-anything's classes; its builders fix 1,024 px and 256 channels.

    Args:
        weights: folder with `model.safetensors`, or None for random weights.
        resolution: side of its images in px, a multiple of 8; None reads it off the weights.

    Returns:
        The model on the CPU, in eval mode.
    """
    import torch
    from safetensors.torch import load_file
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    width, patch = 128, 8
    state = load_file(Path(weights) / "model.safetensors") if weights is not None else {}
    if resolution is None:
        assert state, "a SAM with random weights needs a resolution"
        resolution = patch * state["image_encoder.pos_embed"].shape[1]
    embed = resolution // patch
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    encoder = ImageEncoderViT(
        img_size=resolution,
        patch_size=patch,
        embed_dim=128,
        depth=4,
        num_heads=4,
        out_chans=width,
        norm_layer=norm,
        use_rel_pos=True,
        window_size=0,
        global_attn_indexes=(0, 1, 2, 3),
    )
    prompts = PromptEncoder(
        embed_dim=width,
        image_embedding_size=(embed, embed),
        input_image_size=(resolution, resolution),
        mask_in_chans=8,
    )
    decoder = MaskDecoder(
        transformer_dim=width,
        transformer=TwoWayTransformer(depth=2, embedding_dim=width, num_heads=4, mlp_dim=256),
        iou_head_hidden_dim=64,
    )
    sam = Sam(encoder, prompts, decoder, pixel_mean=[127.5] * 3, pixel_std=[127.5] * 3)
    if state:
        sam.load_state_dict({key: value.float() for key, value in state.items()})
    return sam.eval()
