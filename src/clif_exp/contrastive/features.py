"""Image features: the image tower is frozen, so each image is encoded once, before training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clif_exp.artifacts.files import file_digest, whole_file
from clif_exp.artifacts.sharing import share
from clif_exp.contrastive.pairs import Pair, read_pairs

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.contrastive.settings import ImageFeatureSettings

Box = tuple[int, int, int, int]


def cache_image_features(
    out: Path,
    *,
    spec: BaseModels,
    manifests: Mapping[str, Path],
    names: set[str],
    settings: ImageFeatureSettings,
) -> None:
    """Encode all pairs with the text encoders' CLIPs, for every stage 1 on these pairs.

    Processes that call this at the same time share the work.

    Args:
        out: folder for one cache per encoder.
        spec: resolved base models.
        manifests: "G", "R" -> folder of that augmentation.
        names: the concepts being customised.
        settings: whose CLIPs encode what, and where.
    """
    from clif_exp.base_models.loading import load_contrastive

    pairs = read_pairs(manifests, names=names)
    for encoder in spec.contrastive:
        if encoder in (settings.encoders or spec.contrastive):
            clip, _, processor = load_contrastive(spec, encoder, device=settings.device)
            # without its parents: a helper must not make a folder that was published meanwhile
            (out / encoder).mkdir(exist_ok=True)
            pair_features(clip, processor, pairs, cache=out / encoder, parts=settings.parts)


def pair_features(
    clip: Any, processor: Any, pairs: Sequence[Pair], *, cache: Path, parts: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the features of all pairs' images, and of their parts alone.

    Args:
        clip: CLIPModel.
        processor: its CLIPImageProcessor.
        pairs: the pairs.
        cache: existing folder of caches of this CLIP.
        parts: encode the parts of R pairs by themselves too.

    Returns:
        L2-normalised features, both float32 [N, D], on the CPU; None for the parts where `parts` is
        False or no pair has one.
    """
    whole_ND = image_features(clip, processor, [(pair.file, None) for pair in pairs], cache=cache)
    if not (parts and any(pair.meta.part for pair in pairs)):
        return whole_ND, None
    boxed = [(pair.file, pair.box if pair.meta.part else None) for pair in pairs]
    return whole_ND, image_features(clip, processor, boxed, cache=cache)


def image_features(
    clip: Any,
    processor: Any,
    images: Sequence[tuple[Path, Box | None]],
    *,
    cache: Path,
    batch_size: int = 64,
) -> Tensor:
    """Encode images, or crops of them, or read them from the cache of an earlier call.

    Processes that call this with the same images at the same time share the work.

    Args:
        clip: CLIPModel.
        processor: its CLIPImageProcessor.
        images: (file, crop box in px or None); duplicates are encoded once.
        cache: existing folder of caches of this CLIP; each is named by the images' content.
        batch_size: images per forward pass.

    Returns:
        L2-normalised features, float32 [N, D], on the CPU.
    """
    from safetensors.torch import load_file, save_file

    contents = {file: file_digest(file).hex() for file in dict.fromkeys(file for file, _ in images)}
    keys = [(contents[file], box) for file, box in images]
    own = cache / f"image_features_{hashlib.sha256(repr(keys).encode()).hexdigest()[:16]}"
    own.mkdir(exist_ok=True)
    distinct = dict(zip(keys, images, strict=True))
    chosen = list(distinct.values())
    batches = {
        f"{start:06d}": chosen[start : start + batch_size]
        for start in range(0, len(chosen), batch_size)
    }

    def file_of(key: str) -> Path:
        return own / f"{key}.safetensors"

    def work(key: str) -> None:
        with whole_file(file_of(key)) as partial:
            save_file({"features": _encode(clip, processor, batches[key])}, str(partial))

    share(
        own,
        batches,
        done=lambda key: file_of(key).is_file(),
        work=work,
        description="encoding images",
    )
    features = torch.cat([load_file(str(file_of(key)))["features"] for key in batches])
    number = {key: index for index, key in enumerate(distinct)}
    return features[torch.tensor([number[key] for key in keys])]


@torch.inference_mode()
def _encode(clip: Any, processor: Any, files: Sequence[tuple[Path, Box | None]]) -> Tensor:
    from PIL import Image

    images = []
    for file, box in files:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        images.append(image.crop(box) if box else image)
    pixels = processor(images=images, return_tensors="pt").pixel_values
    device = clip.visual_projection.weight.device
    features = clip.get_image_features(pixels.to(device, clip.dtype)).pooler_output
    return F.normalize(features.float(), dim=-1).cpu()
