"""Segment Anything through segment-anything's own classes, with automatic masks made in batches and without loops in Python."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clif_exp.curation.segmenters import Proposals, resolve_checkpoint

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor

# ViT width -> the package's name for it; how a checkpoint tells what it is.
_MODEL_TYPES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


def load_sam(checkpoint: str | None, *, model_type: str | None = None, sha256: str | None = None) -> Sam:
    """Load an official SAM checkpoint, or ToonWorld's small SAM from its folder.

    Args:
        checkpoint: an official .pth or .safetensors file, "owner/repository/file" on the hub, or a folder with
            model.safetensors for ToonWorld's sizes.
        model_type: vit_b, vit_l or vit_h; None reads it off the weights.
        sha256: hex digest that the file must have; None skips the check.

    Returns:
        The model on the CPU, in eval mode.

    Raises:
        ValueError: missing, unreadable or unexpected weights.
    """
    if checkpoint is None:
        raise ValueError(
            "segmenter.settings.checkpoint: none given, and model= names none. Give a SAM checkpoint, or segmenter=felzenszwalb."
        )
    path = resolve_checkpoint(str(checkpoint))
    if path.is_dir():
        from clif_exp.toonworld.architectures import build_sam

        try:
            return build_sam(path)
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(f"segmenter.settings.checkpoint: {path} holds no small SAM ({_first_line(error)}).") from None
    if sha256 is not None:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != sha256.lower():
            raise ValueError(f"segmenter.settings.sha256: {path.name} has {found}, not {sha256}. Download it again.")
    weights = _read_weights(path)
    try:
        model_type = model_type or _MODEL_TYPES[weights["image_encoder.pos_embed"].shape[-1]]
        return _build(model_type, weights)
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"segmenter.settings.checkpoint: {path.name} is not SAM's {model_type or 'format'} ({_first_line(error)})."
        ) from None


def _build(model_type: str, weights: dict[str, Tensor]) -> Sam:
    from segment_anything import sam_model_registry

    if model_type not in sam_model_registry:
        known = ", ".join(name for name in sam_model_registry if name != "default")
        raise ValueError(f"segmenter.settings.model_type: found {model_type!r}. Choose {known}.")
    # The builder itself unpickles without weights_only: give it no file, load the tensors ourselves.
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
        raise ValueError(f"segmenter.settings.checkpoint: {path} cannot be read ({_first_line(error)}). Download it again.") from None


class SamSegmenter:
    """Automatic and prompted masks from a SAM of any size.

    The masks are those of SamAutomaticMaskGenerator without crops: the same grid, thresholds and box suppression. Pictures
    are encoded in batches, masks that the quality head rejects are never scaled up, and nothing is run-length coded.

    Args:
        model: a SAM.
        points_per_side: grid of point prompts; 32 finds more small parts at four times the cost of 16.
        points_per_batch: prompts decoded at once; bounds memory (64 prompts at 1,024 px take about 0.8 GB).
        images_per_batch: pictures encoded at once.
        iou_threshold: masks whose quality SAM itself predicts below this are dropped; 0 keeps all.
        stability_threshold: masks whose area depends on the cut-off are dropped below this; 0 keeps all.
        stability_offset: logits by which the cut-off is shifted for that.
        nms_threshold: of two masks whose boxes overlap more than this (IoU) the better one stays.
        device: where the model runs.
    """

    name = "sam"

    def __init__(
        self, model: Sam, *, points_per_side: int = 16, points_per_batch: int = 128, images_per_batch: int = 8,
        iou_threshold: float = 0.8, stability_threshold: float = 0.9, stability_offset: float = 1.0,
        nms_threshold: float = 0.7, device: str = "cpu",
    ) -> None:  # fmt: skip
        from segment_anything.utils.transforms import ResizeLongestSide

        self.model = model.to(device)
        self.transform = ResizeLongestSide(model.image_encoder.img_size)
        self.points_per_side, self.points_per_batch, self.images_per_batch = points_per_side, points_per_batch, images_per_batch
        self.iou_threshold, self.nms_threshold = iou_threshold, nms_threshold
        self.stability_threshold, self.stability_offset = stability_threshold, stability_offset

    def propose(self, images: Sequence[np.ndarray]) -> list[Proposals]:
        """Propose masks over a grid of points; see `Segmenter.propose`."""
        return [self._masks_of(embedding, image.shape[:2]) for image, embedding in self._encoded(images)]

    def prompt(self, image: np.ndarray, *, point: tuple[int, int] | None = None, box: tuple[int, int, int, int] | None = None) -> Proposals:
        """Propose three masks at a point, or one in a box; see `Segmenter.prompt`."""
        import torch

        assert point is not None or box is not None, "a prompt is a point or a box"
        ((_, embedding),) = self._encoded([image])
        size = image.shape[:2]
        points = labels = boxes = None
        if point is not None:
            points = torch.as_tensor(self.transform.apply_coords(np.array([point], float), size))[None].float()
            labels = torch.ones(1, 1, dtype=torch.int)
        if box is not None:
            boxes = torch.as_tensor(self.transform.apply_boxes(np.array([box], float), size)).float()
        with torch.inference_mode():
            low, quality = self._decode(embedding, points=points, labels=labels, boxes=boxes, multimask=box is None)
            masks = self._upscaled(low, size)[0] > self.model.mask_threshold
        order = quality[0].argsort(descending=True)
        return Proposals(masks[order].cpu().numpy(), quality[0][order].clamp(0, 1).float().cpu().numpy())

    def _encoded(self, images: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, Tensor]]:
        import torch

        for start in range(0, len(images), self.images_per_batch):
            chunk = images[start : start + self.images_per_batch]
            resized = [torch.as_tensor(self.transform.apply_image(image)).permute(2, 0, 1) for image in chunk]
            with torch.inference_mode():
                batch_BCHW = torch.stack([self.model.preprocess(image.to(self.model.device)) for image in resized])
                embeddings = self.model.image_encoder(batch_BCHW)
            yield from zip(chunk, embeddings.split(1), strict=True)

    def _decode(self, embedding: Tensor, *, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, multimask: bool):
        """Low-resolution logits [P, M, h, w] and predicted quality [P, M] for P prompts."""
        device = self.model.device
        prompt = None if points is None or labels is None else (points.to(device), labels.to(device))
        sparse, dense = self.model.prompt_encoder(points=prompt, boxes=None if boxes is None else boxes.to(device), masks=None)
        return self.model.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )

    def _upscaled(self, low_PMHW: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = self.transform.get_preprocess_shape(*size, self.transform.target_length)
        return self.model.postprocess_masks(low_PMHW, (height, width), size)

    def _masks_of(self, embedding: Tensor, size: tuple[int, int]) -> Proposals:
        import torch
        from segment_anything.utils.amg import batched_mask_to_box, build_point_grid, calculate_stability_score
        from torchvision.ops import batched_nms

        grid = self.transform.apply_coords(build_point_grid(self.points_per_side) * np.array(size[::-1]), size)
        points = torch.as_tensor(grid).float()[:, None]
        lows, scores, boxes = [], [], []
        with torch.inference_mode():
            for chunk in points.split(self.points_per_batch):
                low, quality = self._decode(
                    embedding, points=chunk, labels=torch.ones(len(chunk), 1, dtype=torch.int), boxes=None, multimask=True
                )
                low, quality = low.flatten(0, 1), quality.flatten()
                if self.iou_threshold > 0:
                    keep = quality > self.iou_threshold
                    low, quality = low[keep], quality[keep]
                if not len(low):
                    continue
                logits = self._upscaled(low[:, None], size)[:, 0]
                if self.stability_threshold > 0:
                    stability = calculate_stability_score(logits, self.model.mask_threshold, self.stability_offset)
                    keep = stability >= self.stability_threshold
                    low, quality, logits = low[keep], quality[keep], logits[keep]
                lows.append(low)
                scores.append(quality)
                boxes.append(batched_mask_to_box(logits > self.model.mask_threshold).float())
            if not sum(map(len, lows)):
                return Proposals.none(*size)
            low, score, box = torch.cat(lows), torch.cat(scores), torch.cat(boxes)
            keep = batched_nms(box, score, torch.zeros(len(box), device=box.device), self.nms_threshold)
            # Low-resolution logits were kept instead of masks: at 1,024 px that is a sixteenth of the memory.
            masks = [self._upscaled(part[:, None], size)[:, 0] > self.model.mask_threshold for part in low[keep].split(64)]
            return Proposals(torch.cat(masks).cpu().numpy(), score[keep].clamp(0, 1).float().cpu().numpy())


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
