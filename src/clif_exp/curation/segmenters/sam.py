"""Segment Anything through segment-anything's own classes; automatic masks in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from clif_exp.curation.segmenters.proposals import Proposals

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor

T = TypeVar("T")
_DRAWN_AT_ONCE = 32  # masks in the image's size; more are often drawn in vain


class SamSegmenter:
    """Automatic and prompted masks from a SAM of any size.

    The masks are those of SamAutomaticMaskGenerator without crops: the same grid, thresholds and
    box suppression. Images are encoded in batches, points share what they can (`PointDecoder`),
    most masks that would be rejected are never scaled up, nothing is run-length coded, and on a CPU
    each core decodes an image of its own.

    Args:
        model: a SAM.
        points_per_side: grid of point prompts; 32 finds more small parts at four times the cost of
            16.
        points_per_batch: points decoded at once; bounds memory. None: 32 on a CPU, whose cache
            holds no more, else 256.
        images_per_batch: images encoded at once.
        iou_threshold: masks whose quality SAM itself predicts below this are dropped; 0 keeps all.
        stability_threshold: masks whose area depends on the cut-off are dropped below this; 0 keeps
            all.
        stability_offset: logits by which the cut-off is shifted for that.
        nms_threshold: of two masks whose boxes overlap more than this (IoU) the better one stays.
        mixed_precision: encode images in bf16 where a CPU has it in hardware: faster, and masks
            no longer to the pixel.
        device: where the model runs.
    """

    name = "sam"

    def __init__(
        self,
        model: Sam,
        *,
        points_per_side: int,
        points_per_batch: int | None,
        images_per_batch: int,
        iou_threshold: float,
        stability_threshold: float,
        stability_offset: float,
        nms_threshold: float,
        mixed_precision: bool,
        device: str = "cpu",
    ) -> None:
        from segment_anything.utils.transforms import ResizeLongestSide

        from clif_exp.curation.segmenters.sam_points import PointDecoder

        self.model = model.to(device)
        self.decode_points = PointDecoder(self.model)
        self.transform = ResizeLongestSide(model.image_encoder.img_size)
        self.points_per_side, self.images_per_batch, self.mixed_precision = (
            points_per_side,
            images_per_batch,
            mixed_precision,
        )
        self.points_at_once = points_per_batch or (32 if str(device).startswith("cpu") else 256)
        self.iou_threshold, self.nms_threshold = iou_threshold, nms_threshold
        self.stability_threshold, self.stability_offset = stability_threshold, stability_offset

    def propose(self, images: Sequence[np.ndarray]) -> list[Proposals]:
        """Propose masks over a grid of points; see `Segmenter.propose`."""
        encoded = ((embedding, image.shape[:2]) for image, embedding in self._encoded(images))
        return list(
            _in_parallel(
                self._masks_of, encoded, on_cpu=self.model.device.type == "cpu" and len(images) > 1
            )
        )

    def prompt(
        self,
        image: np.ndarray,
        *,
        point: tuple[int, int] | None = None,
        box: tuple[int, int, int, int] | None = None,
    ) -> Proposals:
        """Propose three masks at a point, or one in a box; see `Segmenter.prompt`."""
        import torch

        assert point is not None or box is not None, "a prompt is a point or a box"
        ((_, embedding),) = self._encoded([image])
        size = image.shape[:2]
        points = labels = boxes = None
        if point is not None:
            points = torch.as_tensor(self.transform.apply_coords(np.array([point], float), size))[
                None
            ].float()
            labels = torch.ones(1, 1, dtype=torch.int)
        if box is not None:
            boxes = torch.as_tensor(
                self.transform.apply_boxes(np.array([box], float), size)
            ).float()
        with torch.inference_mode():
            low, quality = self._decode(
                embedding, points=points, labels=labels, boxes=boxes, multimask=box is None
            )
            masks = self._upscaled(low, size)[0] > self.model.mask_threshold
        order = quality[0].argsort(descending=True)
        return Proposals(
            masks[order].cpu().numpy(), quality[0][order].clamp(0, 1).float().cpu().numpy()
        )

    def _encoded(self, images: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, Tensor]]:
        import torch

        from clif_exp.base_models.precision import cpu_autocast

        for start in range(0, len(images), self.images_per_batch):
            chunk = images[start : start + self.images_per_batch]
            resized = [
                torch.as_tensor(self.transform.apply_image(image)).permute(2, 0, 1)
                for image in chunk
            ]
            with torch.inference_mode():
                batch_BCHW = torch.stack(
                    [self.model.preprocess(image.to(self.model.device)) for image in resized]
                )
                with cpu_autocast(enabled=self.mixed_precision and self.model.device.type == "cpu"):
                    embeddings = self.model.image_encoder(batch_BCHW).float()
            yield from zip(chunk, embeddings.split(1), strict=True)

    def _decode(
        self,
        embedding: Tensor,
        *,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits [P, M, h, w] and predicted quality [P, M] for P prompts."""
        device = self.model.device
        prompt = (
            None if points is None or labels is None else (points.to(device), labels.to(device))
        )
        sparse, dense = self.model.prompt_encoder(
            points=prompt, boxes=None if boxes is None else boxes.to(device), masks=None
        )
        return self.model.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )

    def _upscaled(self, low_PMHW: Tensor, size: tuple[int, int]) -> Tensor:
        """As `Sam.postprocess_masks`, without resizing what has its size already."""
        import torch.nn.functional as F

        side = self.model.image_encoder.img_size
        height, width = self.transform.get_preprocess_shape(*size, self.transform.target_length)
        logits = F.interpolate(low_PMHW, (side, side), mode="bilinear", align_corners=False)[
            ..., :height, :width
        ]
        return (
            logits
            if (height, width) == size
            else F.interpolate(logits, size, mode="bilinear", align_corners=False)
        )

    def _masks_of(self, encoded: tuple[Tensor, tuple[int, int]]) -> Proposals:
        import torch
        from segment_anything.utils.amg import build_point_grid

        embedding, size = encoded
        grid = self.transform.apply_coords(
            build_point_grid(self.points_per_side) * np.array(size[::-1]), size
        )
        points = torch.as_tensor(grid).float().to(embedding.device)
        with torch.inference_mode():
            decoded = [
                self.decode_points(embedding, points_P2=chunk, min_quality=self.iou_threshold)
                for chunk in points.split(self.points_at_once)
            ]
            low, quality = (torch.cat(column) for column in zip(*decoded, strict=True))
            masks, scores = self._best(low, quality, size)
        return Proposals(masks.cpu().numpy(), scores.clamp(0, 1).float().cpu().numpy())

    def _best(
        self, low_NHW: Tensor, quality_N: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Stable masks [n, H, W] without near-duplicates, best first, and their qualities.

        Greedy box suppression from the best downwards, a few masks at a time: what has nearly the
        low-resolution box of a mask that was kept would be suppressed by it, and is never scaled
        up.
        """
        import torch
        from torchvision.ops import box_iou, nms

        rough, trusted = _rough_boxes(low_NHW, self.model.mask_threshold)
        sure = 1 - (1 - self.nms_threshold) / 4
        waiting = quality_N.argsort(descending=True, stable=True)
        kept = waiting[:0]
        boxes, masks = rough[:0], [torch.zeros(0, *size, dtype=torch.bool, device=low_NHW.device)]
        while len(waiting):
            now, waiting = waiting[:_DRAWN_AT_ONCE], waiting[_DRAWN_AT_ONCE:]
            logits = self._upscaled(low_NHW[now, None], size)[:, 0]
            steady = self._steady(logits)
            now, logits = now[steady], logits[steady]
            together = torch.cat([boxes, _boxes(logits, self.model.mask_threshold)])
            survivors = nms(together, quality_N[torch.cat([kept, now])], self.nms_threshold)
            new = survivors[survivors >= len(kept)] - len(kept)
            kept, boxes = torch.cat([kept, now[new]]), together[survivors]
            masks.append(logits[new] > self.model.mask_threshold)
            known = now[new][trusted[now[new]]]
            if len(known):
                repeated = box_iou(rough[waiting], rough[known]).amax(1) > sure
                waiting = waiting[~(repeated & trusted[waiting])]
        return torch.cat(masks), quality_N[kept]

    def _steady(self, logits_NHW: Tensor) -> Tensor:
        """Whether a mask's area depends little on the cut-off, bool [N]."""
        if self.stability_threshold <= 0:
            return logits_NHW.new_ones(len(logits_NHW)).bool()
        threshold, offset = self.model.mask_threshold, self.stability_offset
        return (
            _areas(logits_NHW, threshold + offset) / _areas(logits_NHW, threshold - offset)
            >= self.stability_threshold
        )


def _in_parallel(
    work: Callable[[T], Proposals], items: Iterable[T], *, on_cpu: bool
) -> Iterator[Proposals]:
    """Map in order, on a CPU with one core per image: decoding's steps are too small to split."""
    import torch

    threads = torch.get_num_threads()
    if not on_cpu or threads == 1:
        yield from map(work, items)
        return
    waiting = list(items)  # encoded first, by all cores
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, waiting)
    finally:
        torch.set_num_threads(threads)  # the workers' call also set what threads to come start with


def _rough_boxes(low_NHW: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Boxes at low resolution, float [N, 4], and whether the full masks' are equal up to a pixel.

    Scaled up, a mask lies within its low-resolution box, and holds all between four neighbours that
    it holds. Where both boxes agree and neither is small, nothing that interpolation does can move
    its edges far.
    """
    import torch

    outer = _boxes(low_NHW, threshold)
    pairs = torch.minimum(low_NHW[:, 1:], low_NHW[:, :-1])
    inner = _boxes(torch.minimum(pairs[..., 1:], pairs[..., :-1]), threshold)
    one = torch.tensor([0.0, 0.0, 1.0, 1.0], device=low_NHW.device)
    agree = (inner + one - outer).abs().amax(1) <= 1
    return outer + one, agree & ((outer[:, 2:] - outer[:, :2]).amin(1) >= 7)


def _areas(logits_NHW: Tensor, threshold: float) -> Tensor:
    """Pixels above a threshold per mask.

    Small integers first: summing bools one by one is seven times slower.
    """
    import torch

    return (logits_NHW > threshold).sum(-1, dtype=torch.int16).sum(-1, dtype=torch.int32)


def _boxes(logits_NHW: Tensor, threshold: float) -> Tensor:
    """Boxes (x0, y0, x1, y1 inclusive, as SAM's own), float [N, 4]; zeros for an empty mask."""
    import torch

    sides = []
    for along in (1, 2):  # columns, rows
        hit = logits_NHW.amax(dim=along) > threshold
        places = torch.arange(hit.shape[1], device=hit.device)
        sides.append(
            (torch.where(hit, places, hit.shape[1]).amin(1), torch.where(hit, places, -1).amax(1))
        )
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], dim=1).float() * (x1 >= 0)[:, None]
