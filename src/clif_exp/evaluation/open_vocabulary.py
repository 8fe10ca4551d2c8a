"""Figures of real images: OWLv2 finds them, DINOv2 compares them with the references.

Never run on real weights. The detect-and-compare idea is MuDI's (Jang et al., 2024). Where
ToonWorld's oracle reads attributes, this reader can only compare: identity becomes the likeness to
the concept's own references, leakage the likeness to another concept's references beyond what the
two concepts' references share anyway. Attribute binding cannot be measured this way and stays
empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from clif_exp.evaluation.detect_and_compare import square_crop
from clif_exp.evaluation.figures import Figure
from clif_exp.evaluation.references import load_reference

if TYPE_CHECKING:
    from torch import Tensor

    from clif_exp.concepts.concept import ConceptImage

_BATCH = 64  # images of at most 224 x 224 px at a time


class OpenVocabularyReader:
    """OWLv2 boxes with DINOv2 likenesses.

    Args:
        references: concept -> reference images.
        queries: what to look for, "a person", "an animal", ...; usually the class words.
        detector: an OWLv2 checkpoint, folder or hub id.
        features: a DINOv2 checkpoint, folder or hub id.
        min_score: boxes below this confidence are dropped.
        leak_margin: likeness to another concept counts as leaked only beyond the references' own by
            this much.
        max_overlap: of two boxes with a larger IoU the less certain is dropped.
        device: torch device.
    """

    def __init__(
        self,
        references: Mapping[str, Sequence[ConceptImage]],
        *,
        queries: Sequence[str],
        detector: str,
        features: str,
        min_score: float,
        leak_margin: float,
        max_overlap: float = 0.7,
        device: str = "cpu",
    ) -> None:
        from transformers import (
            AutoImageProcessor,
            AutoModel,
            Owlv2ForObjectDetection,
            Owlv2Processor,
        )

        owl: Any = Owlv2ForObjectDetection.from_pretrained(detector, use_safetensors=True)
        self.detector = owl.to(device).eval()
        self.detector_processor: Any = Owlv2Processor.from_pretrained(detector)
        dino: Any = AutoModel.from_pretrained(features, use_safetensors=True)
        self.features = dino.to(device).eval()
        self.features_processor = AutoImageProcessor.from_pretrained(features)
        self.queries, self.device = list(queries), device
        self.min_score, self.max_overlap, self.leak_margin = min_score, max_overlap, leak_margin
        # References show the whole image; cropping them to the same detector's best box compares
        # like with like.
        self.references = {
            name: self._reference_features(images) for name, images in references.items()
        }
        self.shared = {
            (a, b): float((self.references[a] @ self.references[b].T).mean())
            for a in references
            for b in references
            if a != b
        }

    def read(self, images: Sequence[Image.Image]) -> list[list[Figure]]:
        """Find and compare the figures of each image."""
        return [self._read_one(image.convert("RGB")) for image in images]

    def _read_one(self, image: Image.Image) -> list[Figure]:
        boxes = self._detect(image)
        if not boxes:
            return []
        crops_ND = self._class_tokens([square_crop(image, box) for box, _ in boxes])
        return [
            Figure(box, score, {}, likeness=self._likeness(feature_D))
            for (box, score), feature_D in zip(boxes, crops_ND, strict=True)
        ]

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Return the L2-normalised mean of all tokens of each image, as MuDI compares by DINOv2."""
        return self._features_of(images, lambda hidden_BLD: hidden_BLD.mean(1))

    def _likeness(self, feature_D: Tensor) -> dict[str, float]:
        own = {
            name: max(0.0, float((features_RD @ feature_D).mean()))
            for name, features_RD in self.references.items()
        }
        beyond = {f"{a}>{b}": own[b] - shared for (a, b), shared in self.shared.items()}
        return own | {
            pair: value if value > self.leak_margin else 0.0 for pair, value in beyond.items()
        }

    def _detect(self, image: Image.Image) -> list[tuple[tuple[float, float, float, float], float]]:
        """Return (box as shares of width and height, score), best first."""
        import torch

        inputs = self.detector_processor(text=[self.queries], images=image, return_tensors="pt").to(
            self.device
        )
        with torch.inference_mode():
            output = self.detector(**inputs)
        found = self.detector_processor.post_process_grounded_object_detection(
            output, target_sizes=torch.tensor([image.size[::-1]]), threshold=self.min_score
        )[0]
        candidates = sorted(
            zip(found["boxes"].tolist(), found["scores"].tolist(), strict=True),
            key=lambda pair: -pair[1],
        )
        kept: list[tuple[tuple[float, float, float, float], float]] = []
        for box, score in candidates:
            clipped = (
                max(box[0], 0),
                max(box[1], 0),
                min(box[2], image.width),
                min(box[3], image.height),
            )
            if clipped[2] - clipped[0] < 2 or clipped[3] - clipped[1] < 2:
                continue
            if all(
                intersection_over_union(clipped, other) <= self.max_overlap for other, _ in kept
            ):
                kept.append((clipped, score))
        width, height = image.size
        return [
            ((left / width, top / height, right / width, bottom / height), score)
            for (left, top, right, bottom), score in kept
        ]

    def _reference_features(self, references: Sequence[ConceptImage]) -> Tensor:
        images = [load_reference(reference) for reference in references]
        boxes = [self._detect(image) for image in images]
        return self._class_tokens(
            [
                square_crop(image, found[0][0]) if found else image
                for image, found in zip(images, boxes, strict=True)
            ]
        )

    def _class_tokens(self, images: Sequence[Image.Image]) -> Tensor:
        return self._features_of(images, lambda hidden_BLD: hidden_BLD[:, 0])

    def _features_of(
        self, images: Sequence[Image.Image], pool: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return L2-normalised features [N, D], `_BATCH` images at a time."""
        import torch

        parts = [torch.zeros(0, self.features.config.hidden_size)]
        for start in range(0, len(images), _BATCH):
            pixels_BCHW = self.features_processor(
                images=list(images[start : start + _BATCH]), return_tensors="pt"
            ).pixel_values.to(self.device)
            with torch.inference_mode():
                hidden_BLD = self.features(pixel_values=pixels_BCHW).last_hidden_state
            parts.append(pool(hidden_BLD).float().cpu())
        return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


def intersection_over_union(a: Sequence[float], b: Sequence[float]) -> float:
    """Overlap of two boxes (left, top, right, bottom) in [0, 1]."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared) if sum(areas) > shared else 0.0
