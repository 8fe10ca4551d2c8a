"""CLIP similarity between regions of images and words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from clif_exp.base_models.loading import load_contrastive
from clif_exp.base_models.spec import BaseModels
from clif_exp.concepts.images import on_white


class RegionText:
    """Region and text features of the base model's own CLIP, L2-normalised; texts are cached.

    Args:
        spec: base models; the CLIP of the first text encoder is used.
        device: where it runs.
        batch_size: images per forward pass.
    """

    def __init__(self, spec: BaseModels, *, device: str = "cpu", batch_size: int = 32) -> None:
        self.model, self.tokenizer, self.processor = load_contrastive(
            spec, next(iter(spec.contrastive)), device=device
        )
        self.device, self.batch_size = device, batch_size
        self.scale = float(self.model.logit_scale.exp())
        self._texts: dict[str, np.ndarray] = {}

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Features of RGB images, float32 [N, D]."""
        import torch

        features = [np.zeros((0, self.model.config.projection_dim), np.float32)]
        for start in range(0, len(images), self.batch_size):
            pixels = self.processor(
                images=list(images[start : start + self.batch_size]), return_tensors="pt"
            )["pixel_values"]
            with torch.inference_mode():
                found = self.model.get_image_features(
                    pixel_values=pixels.to(self.device)
                ).pooler_output
            features.append(torch.nn.functional.normalize(found.float(), dim=-1).cpu().numpy())
        return np.concatenate(features)

    def texts(self, captions: Sequence[str]) -> np.ndarray:
        """Features of captions, float32 [N, D]."""
        import torch

        for caption in captions:
            if caption in self._texts:
                continue
            # One by one: in a batch the last digits depend on the neighbours, and so on which
            # process has met which words before.
            tokens = self.tokenizer([caption], truncation=True, return_tensors="pt").to(self.device)
            with torch.inference_mode():
                found = self.model.get_text_features(**tokens).pooler_output
            self._texts[caption] = (
                torch.nn.functional.normalize(found.float(), dim=-1)[0].cpu().numpy()
            )
        return np.stack([self._texts[caption] for caption in captions])

    def regions(self, image_HW3: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Features of masked regions, each cropped onto a white square, float32 [N, D]."""
        return self.images([on_white(image_HW3, mask) for mask in masks])
