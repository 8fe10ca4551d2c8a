"""Backgrounds without anybody: whoever stands in a sampled place is painted over.

A base model that saw hardly any empty place puts a figure into each (ToonWorld's always do). Left
there, it would be a stranger whom no caption names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from clif_exp.base_models.spec import BaseModels
from clif_exp.curation.contexts import open_rgb
from clif_exp.curation.masks import write_png
from clif_exp.curation.segmenters.build import build_segmenter
from clif_exp.curation.segmenters.settings import SegmenterSettings
from clif_exp.curation.segmenting import find_object
from clif_exp.curation.similarity import RegionText
from clif_exp.prompts.articles import with_article

_ROUNDS = 5  # a figure may be found in pieces, and there may be two
_RIM = 0.04  # around a figure that is painted over too, share of the image: shadow, soft edge


def empty_backgrounds(
    out: Path,
    lines: Sequence[dict[str, Any]],
    *,
    names: Sequence[str],
    spec: BaseModels,
    segmenter: SegmenterSettings,
    device: str,
    keep_best: bool,
) -> None:
    """Write every background without its figures to `cutouts/`; its line changes in place.

    Args:
        out: the artifact's folder, with the sampled images.
        lines: of contexts.jsonl; those of another kind stay as they are.
        names: general concepts and parts: what counts as a figure or a piece of one.
        spec: base models.
        segmenter: what finds figures.
        device: where SAM and CLIP run.
        keep_best: keep backgrounds in which something is still found.
    """
    own = [line for line in lines if line["kind"] == "background"]
    if not own or not names:
        return
    built, clip = (
        build_segmenter(segmenter, spec=spec, device=device),
        RegionText(spec, device=device),
    )
    figures = clip.texts([f"a photo of {with_article(name)}" for name in names])
    for line in own:
        place = clip.texts([line["prompt"]])[0]

        def find(image: np.ndarray, place: np.ndarray = place) -> np.ndarray | None:
            """Find the mask of something that looks more like a general concept than the place."""
            found = find_object(
                image,
                built.propose([image])[0],
                word=names[0],
                segmenter=built,
                clip=clip,
                choose=_without_likeness(dict(segmenter.choose)),
                fallback=False,
            )
            if found is None:
                return None
            feature = clip.regions(image, [found.whole_HW])[0]
            return found.whole_HW if (figures @ feature).max() > place @ feature else None

        image, empty = emptied(open_rgb(out / line["image"]), find)
        line["cutout"] = line["image"].replace("images/", "cutouts/")
        line["kept"] = empty or keep_best
        line["reason"] = None if empty else "somebody stands there"
        write_png(out / line["cutout"], Image.fromarray(image))


def emptied(
    image: np.ndarray, find: Callable[[np.ndarray], np.ndarray | None]
) -> tuple[np.ndarray, bool]:
    """Paint over what `find` finds, until it finds nothing.

    Args:
        image: uint8 RGB [H, W, 3].
        find: image to the mask of a figure, bool [H, W], or None.

    Returns:
        The image, and whether nothing is found any more.
    """
    for _ in range(_ROUNDS):
        mask = find(image)
        if mask is None:
            return image, True
        image = paint_over(image, mask)
    return image, find(image) is None


def paint_over(image: np.ndarray, mask_HW: np.ndarray) -> np.ndarray:
    """Fill a mask and its rim row by row from what lies left and right: horizons stay level.

    Args:
        image: uint8 RGB [H, W, 3].
        mask_HW: bool [H, W].

    Returns:
        uint8 RGB [H, W, 3]; rows that the mask fills whole stay as they are.
    """
    rim = max(1, round(_RIM * len(image)))
    hidden_HW = ndimage.binary_dilation(mask_HW, iterations=rim)
    filled = image.copy()
    for row in np.flatnonzero(hidden_HW.any(axis=1)):
        hidden, free = np.flatnonzero(hidden_HW[row]), np.flatnonzero(~hidden_HW[row])
        for channel in range(3) if len(free) else ():
            filled[row, hidden, channel] = np.interp(
                hidden, free, image[row, free, channel]
            ).round()
    return filled


def _without_likeness(choose: Mapping[str, Any]) -> dict[str, Any]:
    """A figure may be any general concept, so the likeness to one word must not choose."""
    weights = {
        name: weight for name, weight in dict(choose["weights"]).items() if name != "similarity"
    }
    return {**choose, "weights": weights}
