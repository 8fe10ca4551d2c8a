"""Parts of a concept: over-segmentation, and names matched to regions (CLIF, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clif_exp.curation.masks import iou, tidy
from clif_exp.curation.segmenters.proposals import Proposals
from clif_exp.curation.similarity import RegionText
from clif_exp.prompts.articles import with_article


@dataclass(frozen=True)
class Part:
    """A region of a concept.

    `name` is None where no name fits well enough; `score` is the probability of the best name.
    """

    mask_HW: np.ndarray
    name: str | None
    score: float
    similarity: float


def over_segment(
    proposals: Proposals,
    whole_HW: np.ndarray,
    *,
    inside: float,
    min_area: float,
    max_area: float,
    nms: float,
    max_parts: int,
) -> list[np.ndarray]:
    """Keep the masks that are parts of the concept, without near-duplicates.

    Args:
        proposals: masks of the whole image.
        whole_HW: the concept, bool [H, W].
        inside: share of a mask that must lie in the concept.
        min_area: smallest part as a share of the concept.
        max_area: largest part as a share of the concept.
        nms: IoU from which two masks are the same part; the more confident one stays.
        max_parts: how many to keep at most, by confidence.

    Returns:
        bool [H, W] masks, clipped to the concept.
    """
    size = whole_HW.sum()
    kept: list[np.ndarray] = []
    for index in np.argsort(-proposals.scores_N, kind="stable"):
        mask = proposals.masks_NHW[index]
        area = mask.sum()
        if not min_area * size <= area <= max_area * size / inside:
            continue
        clipped = mask & whole_HW
        if clipped.sum() < inside * area or not min_area * size <= clipped.sum() <= max_area * size:
            continue
        clipped = tidy(clipped)
        if all(iou(clipped, other) < nms for other in kept):
            kept.append(clipped)
        if len(kept) == max_parts:
            break
    return kept


def name_parts(
    image: np.ndarray,
    masks: Sequence[np.ndarray],
    *,
    names: Sequence[str],
    class_word: str,
    clip: RegionText,
    enabled: bool,
    threshold: float,
    template: str,
    others: Sequence[str],
) -> list[Part]:
    """Match part names to regions by CLIP similarity, one to one.

    The probability of a name is taken over all names, the class word itself and `others`, which
    stand for "none of these": a region that looks most like the whole, or like a face, gets no
    name. Under the threshold a region stays unnamed.

    Args:
        image: uint8 RGB [H, W, 3].
        masks: regions, bool [H, W].
        names: names of parts the concept has.
        class_word: what the concept is as a whole.
        clip: compares regions with names.
        enabled: False leaves every region unnamed.
        threshold: smallest probability of a name.
        template: caption of a single part, with {name} (which brings its article).
        others: what else a region may show, such as "face"; never given as names.

    Returns:
        One `Part` per mask, in order.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.special import softmax

    if not masks:
        return []
    names = list(names)
    if not names or not enabled:
        return [Part(mask, None, 0.0, 0.0) for mask in masks]
    asked = [*names, class_word, *(other for other in others if other not in names)]
    texts = clip.texts([template.format(name=with_article(name)) for name in asked])
    cosines_PN = clip.regions(image, masks) @ texts.T
    probabilities_PN = softmax(clip.scale * cosines_PN, axis=1)[:, : len(names)]
    rows, columns = linear_sum_assignment(-probabilities_PN)
    given = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    parts = []
    for index, mask in enumerate(masks):
        column = given.get(index)
        score = (
            float(probabilities_PN[index, column])
            if column is not None
            else float(probabilities_PN[index].max())
        )
        named = column is not None and score >= threshold
        best = column if column is not None else int(probabilities_PN[index].argmax())
        parts.append(
            Part(mask, names[best] if named else None, score, float(cosines_PN[index, best]))
        )
    return parts
