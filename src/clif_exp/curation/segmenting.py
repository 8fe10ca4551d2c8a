"""Segmenting a concept's images: the whole by the user's mark or by measure, parts by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clif_exp.concepts.concept import Concept, ConceptImage
from clif_exp.concepts.images import MIN_MASK, load_mask, load_rgb, on_white
from clif_exp.curation.captioners.build import Captioner
from clif_exp.curation.masks import resized, tidy
from clif_exp.curation.parts import Part, name_parts, over_segment
from clif_exp.curation.segmenters.proposals import Proposals, Segmenter
from clif_exp.curation.segmenters.regions import RegionSegmenter
from clif_exp.curation.selection import choose_whole
from clif_exp.curation.similarity import RegionText

log = logging.getLogger(__name__)
_FALLBACK = "for want of a mask from sam"


@dataclass(frozen=True)
class Segmented:
    """One image of a concept, segmented.

    Args:
        image: uint8 RGB [H, W, 3], shrunk to `max_side`.
        whole_HW: the concept, bool [H, W].
        how: what decided: mask, point, box, or the segmenter's name.
        score: how sure the choice is.
        measures: what a choice by measure rests on; empty where the user decided.
        parts: regions of the concept, named or not.
        size: (width, height) in px before it was shrunk; None: as it is.
    """

    image: np.ndarray
    whole_HW: np.ndarray
    how: str
    score: float
    measures: Mapping[str, float]
    parts: list[Part] = field(default_factory=list)
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Photograph:
    """A reference image, shrunk, and what its user has marked there, in px of the shrunk one."""

    file: Path
    size: tuple[int, int]  # before
    image: np.ndarray
    mask_HW: np.ndarray | None
    point: tuple[int, int] | None
    box: tuple[int, int, int, int] | None


def segment_concept(
    concept: Concept,
    *,
    segmenter: Segmenter,
    captioner: Captioner,
    clip: RegionText,
    choose: Mapping[str, Any],
    over_segmentation: Mapping[str, Any],
    naming: Mapping[str, Any],
    fallback: bool,
    max_side: int,
) -> list[Segmented]:
    """Cut a concept out of each of its images and name its parts (CLIF, section 4.1).

    Args:
        concept: what to look for.
        segmenter: proposes masks.
        captioner: lists the parts.
        clip: compares regions with words.
        choose: thresholds and weights of `choose_whole`.
        over_segmentation: thresholds of `over_segment`.
        naming: how `name_parts` names.
        fallback: where the segmenter finds nothing, try scikit-image's regions before giving up.
        max_side: longer side in px that images are shrunk to.

    Returns:
        One entry per image, in order.

    Raises:
        ValueError: nothing was found in an image; names it and the remedy.
    """
    photographs = [_read(reference, max_side=max_side) for reference in concept.images]
    proposals = segmenter.propose([photograph.image for photograph in photographs])
    wholes = [
        _find_whole(concept, photograph, found, segmenter, clip, choose, fallback)
        for photograph, found in zip(photographs, proposals, strict=True)
    ]
    missed = [
        photograph.file.name
        for photograph, whole in zip(photographs, wholes, strict=True)
        if whole.how.endswith(_FALLBACK)
    ]
    if missed:
        log.warning(
            "concept '%s': cut out by felzenszwalb, %s: %s",
            concept.name,
            _FALLBACK,
            ", ".join(missed),
        )
    names = captioner.parts(
        concept,
        [on_white(whole.image, whole.whole_HW) for whole in wholes],
    )
    results = []
    for photograph, whole, found in zip(photographs, wholes, proposals, strict=True):
        regions = over_segment(found, whole.whole_HW, **over_segmentation) if names else []
        if names and not regions and fallback and segmenter.name == "sam":
            (found,) = RegionSegmenter().propose([whole.image])
            regions = over_segment(found, whole.whole_HW, **over_segmentation)
        parts = name_parts(
            whole.image,
            regions,
            names=names,
            class_word=concept.class_word,
            clip=clip,
            **naming,
        )
        results.append(replace(whole, parts=parts, size=photograph.size))
    return results


def find_object(
    image: np.ndarray,
    found: Proposals,
    *,
    word: str,
    segmenter: Segmenter,
    clip: RegionText,
    choose: Mapping[str, Any],
    fallback: bool,
) -> Segmented | None:
    """Choose the one thing in an image by measure, or None if there is none."""
    choice = choose_whole(image, found, class_word=word, clip=clip, **choose)
    how = segmenter.name
    if choice is None and fallback and segmenter.name == "sam":
        choice = choose_whole(
            image, RegionSegmenter().propose([image])[0], class_word=word, clip=clip, **choose
        )
        how = f"felzenszwalb, {_FALLBACK}"
    return (
        None
        if choice is None
        else Segmented(image, choice.mask_HW, how, choice.score, choice.measures)
    )


def _read(reference: ConceptImage, *, max_side: int) -> _Photograph:
    """Read an image and what is marked in it, shrunk."""
    image = load_rgb(reference.file)
    size, scale = image.size, min(1.0, max_side / max(image.size))
    mask = None if reference.mask is None else load_mask(reference.mask, size=size)
    point, box = reference.point, reference.box
    if scale < 1.0:
        width, height = (max(round(scale * side), 1) for side in size)
        across, down = width / size[0], height / size[1]
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        mask = None if mask is None else resized(mask, (width, height))
        if mask is not None and mask.sum() < MIN_MASK:
            raise ValueError(
                f"{reference.mask}: {mask.sum()} pixels are left of it at"
                f" segmenter.max_side={max_side}. Paint the whole concept white, or raise that"
                " setting."
            )
        if point is not None:
            point = (int(across * point[0]), int(down * point[1]))
        if box is not None:
            x0, y0, x1, y1 = box
            box = (int(across * x0), int(down * y0), ceil(across * x1), ceil(down * y1))
            box = (box[0], box[1], min(box[2], width), min(box[3], height))
    return _Photograph(reference.file, size, np.asarray(image), mask, point, box)


def _find_whole(
    concept: Concept,
    photograph: _Photograph,
    found: Proposals,
    segmenter: Segmenter,
    clip: RegionText,
    choose: Mapping[str, Any],
    fallback: bool,
) -> Segmented:
    where, image = f"concept '{concept.name}': {photograph.file.name}", photograph.image
    if photograph.mask_HW is not None:
        return Segmented(image, photograph.mask_HW, "mask", 1.0, {})
    if photograph.box is not None or photograph.point is not None:
        kind = "box" if photograph.box is not None else "point"
        point = None if photograph.box is not None else photograph.point
        prompted = segmenter.prompt(image, point=point, box=photograph.box)
        if (
            kind == "point"
            # a point lies in a button, a jacket and a person: the one that could be the concept is
            # meant
        ):
            meant = choose_whole(
                image, prompted, class_word=concept.class_word, clip=clip, **choose
            )
            if meant is not None:
                return Segmented(image, meant.mask_HW, kind, meant.score, meant.measures)
        best = _best_prompted(prompted)
        if best is not None:
            return Segmented(
                image, tidy(prompted.masks_NHW[best]), kind, float(prompted.scores_N[best]), {}
            )
        raise ValueError(
            f"{where}: {segmenter.name} finds nothing at the {kind}. Move it, or give a mask in"
            " concepts.yaml."
        )
    chosen = find_object(
        image,
        found,
        word=concept.class_word,
        segmenter=segmenter,
        clip=clip,
        choose=choose,
        fallback=fallback,
    )
    if chosen is None:
        raise ValueError(
            f"{where}: {segmenter.name} finds no '{concept.class_word}' (of {len(found.masks_NHW)}"
            " masks none fits in size and place). Give a box, a point or a mask for this image"
            " in concepts.yaml, or another segmenter="
        )
    return chosen


def _best_prompted(prompted: Proposals) -> int | None:
    """The most confident mask that is neither a speck nor the whole image."""
    areas = (
        prompted.masks_NHW.reshape(len(prompted.masks_NHW), -1).mean(axis=1)
        if len(prompted.masks_NHW)
        else np.zeros(0)
    )
    usable = np.flatnonzero((areas > 0.002) & (areas < 0.98))
    return int(usable[prompted.scores_N[usable].argmax()]) if len(usable) else None
