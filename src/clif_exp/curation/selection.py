"""Which of a segmenter's masks is the concept: the one with the best weighted mean of measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from clif_exp.concepts.images import mask_box
from clif_exp.curation.masks import iou, plain_background, tidy
from clif_exp.curation.segmenters.proposals import Proposals
from clif_exp.curation.similarity import RegionText
from clif_exp.prompts.articles import with_article

_SHORTLIST = 16  # candidates worth a look by CLIP


@dataclass(frozen=True)
class Measures:
    """What is known about one candidate mask; every value in [0, 1]."""

    centrality: float  # closeness of the centre of mass to the image's middle
    area: float  # 0 for a speck or the whole image, 1 between 8 and 60 % of it
    border: float  # share of the image's border that the mask covers
    foreground: float  # IoU with what is not background; 0.5 where the background is not plain
    compactness: float  # share of its box that the mask fills
    similarity: float  # CLIP similarity to the class word, relative to the other candidates
    confidence: float  # the segmenter's own score

    def score(self, weights: Mapping[str, float]) -> float:
        """Weighted mean in [-1, 1]; the border's share is subtracted."""
        total = sum(weights.values()) or 1.0
        return (
            sum(
                weight * (-1 if key == "border" else 1) * getattr(self, key)
                for key, weight in weights.items()
            )
            / total
        )


@dataclass(frozen=True)
class Choice:
    """The chosen mask (bool [H, W]), its score and the measures behind it."""

    mask_HW: np.ndarray
    score: float
    measures: dict[str, float]


def choose_whole(
    image: np.ndarray,
    proposals: Proposals,
    *,
    class_word: str,
    clip: RegionText | None,
    weights: Mapping[str, float],
    min_area: float,
    max_area: float,
    max_border: float,
) -> Choice | None:
    """Choose the mask that most likely is the concept (CLIF, section 4.1: "segment the concept").

    Args:
        image: uint8 RGB [H, W, 3].
        proposals: candidates.
        class_word: what the concept is.
        clip: compares candidates with the class word; None leaves that measure out.
        weights: how much each measure counts; border counts against a mask.
        min_area: smallest mask as a share of the image.
        max_area: largest mask as a share of the image.
        max_border: a mask that covers more of the image's border than this is background.

    Returns:
        The best candidate, tidied, or None if none qualifies.
    """
    masks = proposals.masks_NHW
    if not len(masks):
        return None
    areas = masks.mean(axis=(1, 2))
    borders = np.array([_border_share(mask) for mask in masks])
    eligible = np.flatnonzero((areas >= min_area) & (areas <= max_area) & (borders <= max_border))
    if not len(eligible):
        return None
    foreground = plain_background(image)
    measured = [
        Measures(
            centrality=_centrality(masks[i]),
            area=_area_measure(areas[i]),
            border=float(borders[i]),
            foreground=0.5 if foreground is None else iou(masks[i], foreground),
            compactness=_compactness(masks[i]),
            similarity=0.0,
            confidence=float(proposals.scores_N[i]),
        )
        for i in eligible
    ]
    order = np.argsort([-m.score(weights) for m in measured], kind="stable")[:_SHORTLIST]
    if clip is not None and weights.get("similarity", 0) > 0:
        cosines = (
            clip.regions(image, [masks[eligible[k]] for k in order])
            @ clip.texts([f"a photo of {with_article(class_word)}"])[0]
        )
        relative = (cosines - cosines.min()) / max(float(np.ptp(cosines)), 1e-6)
        rescored = {
            k: Measures(**{**asdict(measured[k]), "similarity": float(r)})
            for k, r in zip(order, relative, strict=True)
        }
    else:
        rescored = {k: measured[k] for k in order}
    best = max(rescored, key=lambda k: rescored[k].score(weights))
    return Choice(
        tidy(masks[eligible[best]]), rescored[best].score(weights), _rounded(rescored[best])
    )


def _rounded(measures: Measures) -> dict[str, Any]:
    return {key: round(value, 4) for key, value in asdict(measures).items()}


def _border_share(mask: np.ndarray) -> float:
    return float(np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]]).mean())


def _centrality(mask: np.ndarray) -> float:
    height, width = mask.shape
    y, x = (
        (np.flatnonzero(mask) // width).mean() / height,
        (np.flatnonzero(mask) % width).mean() / width,
    )
    return float(max(0.0, 1 - 2 * np.hypot(x - 0.5, y - 0.5)))


def _area_measure(share: float) -> float:
    return float(np.interp(share, [0.0, 0.08, 0.6, 0.95], [0.0, 1.0, 1.0, 0.0]))


def _compactness(mask: np.ndarray) -> float:
    x0, y0, x1, y1 = mask_box(mask)
    return float(mask.sum() / ((x1 - x0) * (y1 - y0)))
