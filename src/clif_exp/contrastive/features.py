"""Image features: the image tower is frozen, so each picture is encoded once and stage 1 trains the text tower alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor


def image_features(
    clip,
    processor,
    pictures: Sequence[tuple[Path, tuple[int, int, int, int] | None]],
    *,
    cache: Path,
    batch_size: int = 64,
) -> Tensor:
    """Encode pictures, or crops of them, once; later calls with the same pictures read the cache.

    Args:
        clip: CLIPModel.
        processor: its CLIPImageProcessor.
        pictures: (file, crop box in px or None).
        cache: folder of caches; a cache is named by the content of the pictures.
        batch_size: pictures per forward pass.

    Returns:
        L2-normalised features, float32 [N, D], on the CPU.
    """
    from safetensors.torch import load_file, save_file

    digest = hashlib.sha256()
    for file, box in pictures:
        digest.update(hashlib.sha256(file.read_bytes()).digest() + repr(box).encode())
    cached = cache / f"image_features_{digest.hexdigest()[:16]}.safetensors"
    if cached.is_file():
        return load_file(str(cached))["features"]
    features = [_encode(clip, processor, pictures[start : start + batch_size]) for start in range(0, len(pictures), batch_size)]
    features_ND = torch.cat(features)
    cache.mkdir(parents=True, exist_ok=True)
    partial = cached.with_suffix(f".{os.getpid()}.partial")  # every rank may be making it
    save_file({"features": features_ND}, str(partial))
    partial.replace(cached)
    return features_ND


@torch.inference_mode()
def _encode(clip, processor, pictures: Sequence[tuple[Path, tuple[int, int, int, int] | None]]) -> Tensor:
    from PIL import Image

    images = []
    for file, box in pictures:
        with Image.open(file) as image:
            picture = image.convert("RGB")
        images.append(picture.crop(box) if box else picture)
    pixels = processor(images=images, return_tensors="pt").pixel_values
    device = clip.visual_projection.weight.device
    features = clip.get_image_features(pixels.to(device, clip.dtype)).pooler_output
    return F.normalize(features.float(), dim=-1).cpu()
