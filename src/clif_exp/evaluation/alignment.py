"""Alignment with texts and references, as Custom Diffusion measures it (Kumari et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

TEXT_WEIGHT = 2.5  # CLIPScore's w (Hessel et al., 2021)


class Judge:
    """A CLIP that training never uses, and optionally a vision model to compare references (DINO).

    Args:
        path: folder or hub id of a `CLIPModel` with tokenizer and image processor.
        revision: commit of a hub id.
        image_path: a vision model whose class token compares images; None uses the CLIP's image
            tower.
        image_revision: commit of `image_path`.
        device: torch device.
        batch_size: images or texts at a time.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        revision: str | None = None,
        image_path: str | None = None,
        image_revision: str | None = None,
        device: str = "cpu",
        batch_size: int = 32,
    ) -> None:
        import torch
        from transformers import (
            AutoImageProcessor,
            AutoModel,
            CLIPImageProcessor,
            CLIPModel,
            CLIPTokenizer,
        )

        from clif_exp.base_models.loading import quiet_loading

        revision, image_revision = revision or "main", image_revision or "main"
        with quiet_loading():
            clip: Any = CLIPModel.from_pretrained(
                path, revision=revision, use_safetensors=True, dtype=torch.float32
            )
        self.clip = clip.to(device).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(path, revision=revision)
        self.processor = CLIPImageProcessor.from_pretrained(path, revision=revision)
        self.dino: Any = None
        self.dino_processor: Any = None
        if image_path is not None:
            self.dino = (
                AutoModel.from_pretrained(image_path, revision=image_revision, use_safetensors=True)
                .to(device)
                .eval()
            )
            self.dino_processor = AutoImageProcessor.from_pretrained(
                image_path, revision=image_revision
            )
        self.device, self.batch_size = device, batch_size

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return L2-normalised text features, float [N, D]."""

        def embed(batch: Sequence[str]) -> Tensor:
            tokens = self.tokenizer(
                list(batch),
                padding=True,
                truncation=True,
                max_length=self.tokenizer.model_max_length,
                return_tensors="pt",
            ).to(self.device)
            return _features(self.clip.get_text_features(**tokens))

        return self._in_batches(embed, texts)

    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return L2-normalised CLIP image features, float [N, D]."""

        def embed(batch: Sequence[Image.Image]) -> Tensor:
            pixels_BCHW = self.processor(
                images=[image.convert("RGB") for image in batch], return_tensors="pt"
            ).pixel_values
            return _features(self.clip.get_image_features(pixel_values=pixels_BCHW.to(self.device)))

        return self._in_batches(embed, images)

    def embed_images_dino(self, images: Sequence[Image.Image]) -> Tensor:
        """Return L2-normalised class tokens, float [N, E]; only for a judge with `image_path`."""

        def embed(batch: Sequence[Image.Image]) -> Tensor:
            pixels_BCHW = self.dino_processor(
                images=[image.convert("RGB") for image in batch], return_tensors="pt"
            ).pixel_values
            return self.dino(pixel_values=pixels_BCHW.to(self.device)).last_hidden_state[:, 0]

        return self._in_batches(embed, images)

    def _in_batches(self, embed: Any, items: Sequence[Any]) -> Tensor:
        import torch

        with torch.inference_mode():
            parts = [
                embed(items[start : start + self.batch_size])
                for start in range(0, len(items), self.batch_size)
            ]
            features = (
                torch.cat(parts).float()
                if parts
                else torch.zeros(0, self.clip.config.projection_dim)
            )
            return torch.nn.functional.normalize(features, dim=-1).cpu()


def _features(output: Any) -> Tensor:
    # transformers 5 wraps the projected features in an output object; earlier versions do not.
    return getattr(output, "pooler_output", output)


@dataclass(frozen=True)
class EmbeddedBatch:
    """A batch of generated images as the judges embed them; all features are L2-normalised.

    Attributes:
        image_ND: CLIP features of the images, float [N, D].
        text_ND: CLIP features of each image's own text, float [N, D].
        named: the concepts that each image's prompt names.
        references: concept -> CLIP features [R, D] of its references.
        dino_NE: DINO features of the images, float [N, E]; None without such a judge.
        dino_references: concept -> DINO features [R, E] of its references.
        figures: features [F, D'] of the figures found in each image, only in those of several
            concepts; None without a reader.
        figure_references: concept -> features [R, D'] of its references, by the same model.
    """

    image_ND: Tensor
    text_ND: Tensor
    named: Sequence[Sequence[str]]
    references: Mapping[str, Tensor]
    dino_NE: Tensor | None = None
    dino_references: Mapping[str, Tensor] = field(default_factory=dict)
    figures: Sequence[Tensor] | None = None
    figure_references: Mapping[str, Tensor] = field(default_factory=dict)


def text_cosine(batch: EmbeddedBatch) -> list[float]:
    """Return each image's cosine with its own text, in [-1, 1]."""
    return _text_cosine(batch).tolist()


def text_alignment(batch: EmbeddedBatch) -> list[float]:
    """Return 2.5 * max(cosine, 0) of each image with its own text, in [0, 2.5]: CLIPScore."""
    return (TEXT_WEIGHT * _text_cosine(batch).clamp(min=0)).tolist()


def _text_cosine(batch: EmbeddedBatch) -> Tensor:
    return (batch.image_ND * batch.text_ND).sum(-1)


def image_alignment(batch: EmbeddedBatch) -> list[float | None]:
    """Score each image against the CLIP features of its concepts' references."""
    return reference_cosines(batch.image_ND, batch.named, batch.references)


def image_alignment_dino(batch: EmbeddedBatch) -> list[float | None] | None:
    """Score each image against the DINO features of its concepts' references; None without DINO."""
    if batch.dino_NE is None:
        return None
    return reference_cosines(batch.dino_NE, batch.named, batch.dino_references)


def reference_cosines(
    image_ND: Tensor, named: Sequence[Sequence[str]], references: Mapping[str, Tensor]
) -> list[float | None]:
    """Score each image against the references of the concepts that its prompt names.

    Args:
        image_ND: L2-normalised features of the generated images.
        named: the concepts of each image.
        references: concept -> L2-normalised features [R, D] of its references.

    Returns:
        Mean cosine over all references of all named concepts, in [-1, 1]; None without a concept.
        Averaged over images, that is Custom Diffusion's mean over generated x reference pairs.
    """
    scores: list[float | None] = []
    for feature_D, names in zip(image_ND, named, strict=True):
        per_concept = [
            float((references[name] @ feature_D).mean())
            for name in names
            if len(references.get(name, ()))
        ]
        scores.append(sum(per_concept) / len(per_concept) if per_concept else None)
    return scores


def check_independent(path: str | Path, contrastive: Mapping[str, str]) -> None:
    """Check that the judge is not a CLIP that stage 1 trains against.

    Raises:
        ValueError: the judge is one of the contrastive checkpoints.
    """
    for encoder, checkpoint in contrastive.items():
        same = str(path) == str(checkpoint) or (
            Path(path).exists()
            and Path(checkpoint).exists()
            and Path(path).resolve() == Path(checkpoint).resolve()
        )
        if same:
            raise ValueError(
                f"evaluation.judge.path: {path} is the CLIP that stage 1 trains {encoder} against,"
                " so its scores would be biased. Choose another checkpoint."
            )
