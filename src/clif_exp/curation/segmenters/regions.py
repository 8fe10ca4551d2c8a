"""Masks without a trained model: Felzenszwalb's regions, and a graph cut between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clif_exp.curation.masks import plain_background, tidy
from clif_exp.curation.segmenters.proposals import Proposals

_BINS = 16  # colour histogram bins per channel


class RegionSegmenter:
    """Felzenszwalb's graph-based regions, and a GrabCut-like cut between them.

    The defaults are those of conf/segmenter/felzenszwalb.yaml: other segmenters fall back on them.

    The whole thing is found by a cut over fine regions: colours at the image's border (or outside
    the box) against colours in the middle (or in the box). Parts are regions at several scales.

    Args:
        name: felzenszwalb or provided; only for messages.
        scales: Felzenszwalb's `scale` per pass; larger gives larger regions.
        sigma: blur in px before segmenting.
        min_size: smallest region as a share of the image.
        rounds: how often the colour models are refitted.
        centrality: how much being in the middle counts for a region, in nats per pixel.
        smoothness: weight of colour edges between neighbouring regions against the colour models.
    """

    def __init__(
        self,
        *,
        name: str = "felzenszwalb",
        scales: Sequence[float] = (60.0, 150.0, 400.0),
        sigma: float = 0.6,
        min_size: float = 0.002,
        rounds: int = 4,
        smoothness: float = 3.0,
        centrality: float = 4.0,
    ) -> None:
        self.name = name
        self.scales, self.sigma, self.min_size = tuple(scales), sigma, min_size
        self.rounds, self.smoothness, self.centrality = rounds, smoothness, centrality

    def propose(self, images: Sequence[np.ndarray]) -> list[Proposals]:
        """Propose the cut-out whole first, then regions at every scale; see `Segmenter.propose`."""
        return [self._propose_one(image) for image in images]

    def prompt(
        self,
        image: np.ndarray,
        *,
        point: tuple[int, int] | None = None,
        box: tuple[int, int, int, int] | None = None,
    ) -> Proposals:
        """Cut out what lies in a box, or grow from a point; see `Segmenter.prompt`."""
        height, width = image.shape[:2]
        if box is not None:
            masks = [self._cut(image, box=box)]
        else:
            x, y = point or (width // 2, height // 2)
            at_point = [labels == labels[y, x] for labels in self._labels(image)]
            half_w, half_h = width // 3, height // 3
            around = (
                max(0, x - half_w),
                max(0, y - half_h),
                min(width, x + half_w),
                min(height, y + half_h),
            )
            masks = [self._cut(image, box=around), *at_point[::-1]]
            masks = [mask for mask in masks if mask[y, x]]
        masks = [mask for mask in masks if mask.any()]
        if not masks:
            return Proposals.none(height, width)
        return Proposals(np.stack(masks), np.linspace(1.0, 0.5, len(masks), dtype=np.float32))

    def _propose_one(self, image: np.ndarray) -> Proposals:
        height, width = image.shape[:2]
        masks = []
        foreground = plain_background(image)
        if foreground is not None:
            masks.append(tidy(foreground))
        else:
            margin_x, margin_y = round(0.06 * width), round(0.06 * height)
            masks.append(
                self._cut(image, box=(margin_x, margin_y, width - margin_x, height - margin_y))
            )
        for labels in self._labels(image):
            masks += [labels == label for label in range(labels.max() + 1)]
        masks = [mask for mask in masks if mask.any()]
        # The cut is the best guess at the whole; a region's confidence says only that it is none.
        scores = np.full(len(masks), 0.5, np.float32)
        scores[0] = 1.0
        return Proposals(np.stack(masks), scores) if masks else Proposals.none(height, width)

    def _labels(self, image: np.ndarray) -> list[np.ndarray]:
        from skimage.segmentation import felzenszwalb

        size = max(8, round(self.min_size * image.shape[0] * image.shape[1]))
        return [
            felzenszwalb(image, scale=scale, sigma=self.sigma, min_size=size)
            for scale in self.scales
        ]

    def _cut(self, image: np.ndarray, *, box: tuple[int, int, int, int]) -> np.ndarray:
        """Find the minimum cut between inside and outside (after GrabCut, Rother et al. 2004).

        Args:
            image: uint8 RGB [H, W, 3].
            box: (x0, y0, x1, y1) in px; everything outside is background for sure.

        Returns:
            bool [H, W], tidied; empty if the two sides have the same colours.
        """
        from skimage.segmentation import felzenszwalb

        height, width = image.shape[:2]
        labels = felzenszwalb(
            image,
            scale=self.scales[0] / 3,
            sigma=self.sigma,
            min_size=max(4, height * width // 4000),
        )
        count = labels.max() + 1
        x0, y0, x1, y1 = box
        inside = np.zeros((height, width), bool)
        inside[y0:y1, x0:x1] = True
        share_inside = np.bincount(labels.ravel(), inside.ravel(), count) / np.bincount(
            labels.ravel(), minlength=count
        )
        bins = (image // (256 // _BINS)).astype(int) @ np.array([_BINS**2, _BINS, 1])
        histograms = np.zeros((count, _BINS**3))
        np.add.at(histograms, (labels.ravel(), bins.ravel()), 1.0)
        edges, lengths, contrast = _neighbours(labels, image)
        fixed_background = share_inside < 0.5
        central = _central(labels, box, count)
        # Saturates: it counts against a region near the box's border, and equally in its favour
        # anywhere near the middle.
        prior = self.centrality * np.clip(central - 0.12, -0.12, 0.12) * histograms.sum(axis=1)
        foreground = ~fixed_background & (central > 0.2)
        for _ in range(self.rounds):
            unary = _log_ratio(histograms, foreground, ~foreground) + prior
            cut = _minimum_cut(unary, edges, self.smoothness * lengths * contrast, fixed_background)
            if not cut.any() or (cut == foreground).all():
                foreground = cut if cut.any() else foreground
                break
            foreground = cut
        return _smoothed(tidy(foreground[labels], keep=0.25, holes=0.05))


def _smoothed(mask: np.ndarray) -> np.ndarray:
    """Round off the frayed outline that regions leave; the largest component stays."""
    from scipy import ndimage

    radius = max(1.0, min(mask.shape) / 150)
    return tidy(
        ndimage.gaussian_filter(mask.astype(np.float32), radius, mode="nearest") > 0.5, keep=0.25
    )


def _central(labels: np.ndarray, box: tuple[int, int, int, int], count: int) -> np.ndarray:
    """Closeness of each region to the box's middle, mean in [0, 1]; 0 on its border and outside."""
    height, width = labels.shape
    x0, y0, x1, y1 = box
    across = 1 - np.abs(np.arange(width) - (x0 + x1) / 2) / max((x1 - x0) / 2, 1)
    down = 1 - np.abs(np.arange(height) - (y0 + y1) / 2) / max((y1 - y0) / 2, 1)
    closeness = np.minimum(np.clip(down, 0, 1)[:, None], np.clip(across, 0, 1)[None])
    return np.bincount(labels.ravel(), closeness.ravel(), count) / np.bincount(
        labels.ravel(), minlength=count
    )


def _neighbours(labels: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Touching regions [E, 2], length of their common edge in px [E], likeness along it [E]."""
    smooth = image.astype(np.float32)
    pairs, distances = [], []
    for a, b, colour_a, colour_b in (
        (labels[:, :-1], labels[:, 1:], smooth[:, :-1], smooth[:, 1:]),
        (labels[:-1], labels[1:], smooth[:-1], smooth[1:]),
    ):
        differ = a != b
        pairs.append(np.sort(np.stack([a[differ], b[differ]], axis=1), axis=1))
        distances.append(((colour_a[differ] - colour_b[differ]) ** 2).sum(axis=1))
    pair, distance = np.concatenate(pairs), np.concatenate(distances)
    if not len(pair):
        return np.zeros((0, 2), int), np.zeros(0), np.zeros(0)
    edges, inverse = np.unique(pair, axis=0, return_inverse=True)
    lengths = np.bincount(inverse.ravel())
    mean = np.bincount(inverse.ravel(), distance) / lengths
    return edges, lengths.astype(float), np.exp(-mean / (2 * distance.mean() + 1e-6))


def _log_ratio(
    histograms: np.ndarray, foreground: np.ndarray, background: np.ndarray
) -> np.ndarray:
    """Log-likelihood ratio of foreground to background colours, summed over a region's pixels."""

    def log_density(members: np.ndarray) -> np.ndarray:
        total = histograms[members].sum(axis=0) + 0.05
        return np.log(total / total.sum())

    return np.clip(histograms @ (log_density(foreground) - log_density(background)), -1e5, 1e5)


def _minimum_cut(
    unary: np.ndarray, edges: np.ndarray, weights: np.ndarray, fixed: np.ndarray
) -> np.ndarray:
    """Which regions lie on the source's side of the minimum cut: bool [regions]."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    count = len(unary)
    source, sink = count, count + 1
    to_source = np.where(fixed, 0, np.maximum(unary, 0))
    to_sink = np.where(fixed, 1e6, np.maximum(-unary, 0))
    nodes = np.arange(count)
    rows = np.concatenate([np.full(count, source), nodes, edges[:, 0], edges[:, 1]])
    columns = np.concatenate([nodes, np.full(count, sink), edges[:, 1], edges[:, 0]])
    capacity = np.round(np.concatenate([to_source, to_sink, 4 * weights, 4 * weights])).astype(
        np.int32
    )
    graph = coo_matrix((capacity, (rows, columns)), shape=(count + 2, count + 2)).tocsr()
    flow = maximum_flow(graph, source, sink).flow
    residual = graph - flow
    residual.data = np.maximum(residual.data, 0)
    residual.eliminate_zeros()
    reached = breadth_first_order(residual, source, return_predecessors=False)
    side = np.zeros(count + 2, bool)
    side[reached] = True
    return side[:count]
