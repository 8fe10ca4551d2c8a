"""Examples for CLIP: whole images, and cut-outs on white of figures and their parts, with captions.

As in the paper's region augmentation, some images show a part alone.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from clif_exp.concepts.images import on_white
from clif_exp.toonworld.architectures import RESOLUTION
from clif_exp.toonworld.drawing.render import LABELS_PER_FIGURE
from clif_exp.toonworld.grammar import article, caption, full_caption, item_phrase, phrase
from clif_exp.toonworld.names import name_of
from clif_exp.toonworld.recipes.corpus import Corpus
from clif_exp.toonworld.world import PARTS, Character, Item

CUT_OUTS = 0.35  # share of the images
CUT_OUTS_ALONE = 0.6  # when the image tower is trained alone
OWNERS = 0.5  # share of the parts of whoever has a name that are called "NAME's hat"
SMALLEST = 40  # pixels of a part that is cut out
_COVERED = {
    "hat": ("hat",),
    "top": ("top", "arms"),
    "bottom": ("bottom",),
    "accessory": ("accessory",),
}

# What a figure has besides clothes. CLIP names parts, so it must know these to leave them out.
_BODY = {
    "head": ("a head", "a face"),
    "hair": ("hair",),
    "arms": ("arms",),
    "legs": ("legs",),
    "tail": ("a tail",),
}


def example(
    corpus: Corpus, row: int, rng: np.random.Generator, *, cut_outs: float = CUT_OUTS
) -> tuple[np.ndarray, str, str]:
    """Draw an image, uint8 [128, 128, 3], with a partial and a full caption."""
    scene = corpus.scenes[row]
    if rng.random() < cut_outs and scene.figures:
        cut_out = _cut_out(corpus, row, rng)
        if cut_out is not None:
            return cut_out
    names = [name_of(figure.character) or "" for figure in scene.figures]
    full = " ".join([full_caption(scene), *names])
    return corpus.images_NHWC[row], caption(scene, rng), full


def _cut_out(
    corpus: Corpus, row: int, rng: np.random.Generator
) -> tuple[np.ndarray, str, str] | None:
    """Cut out a figure or one of its parts on white; None if too little of it is visible."""
    scene, labels_HW = corpus.scenes[row], corpus.labels_NHW[row]
    element = int(rng.integers(len(scene.figures)))
    who = scene.figures[element].character
    worn = [part for part in _COVERED if getattr(who, part) != "none"]
    part = str(rng.choice(["whole", *worn, *worn, *_BODY]))
    within = (labels_HW > element * LABELS_PER_FIGURE) & (
        labels_HW <= (element + 1) * LABELS_PER_FIGURE
    )
    if part != "whole":
        covered = (
            _COVERED[part][: 1 + int(rng.integers(len(_COVERED[part])))]
            if part in _COVERED
            else (part,)
        )
        within &= np.isin(
            labels_HW, [1 + element * LABELS_PER_FIGURE + PARTS.index(name) for name in covered]
        )
        if rng.random() < 0.5:  # a segmenter gives one arm, or half a jacket beside a scarf
            pieces, count = ndimage.label(within)
            within = pieces == 1 + rng.integers(count) if count else within
    if within.sum() < SMALLEST:
        return None
    image = on_white(corpus.images_NHWC[row], within, margin=rng.uniform(0.03, 0.3)).resize(
        (RESOLUTION,) * 2, Image.Resampling.BILINEAR
    )
    partial, full = _names_of_cut_out(who, part, rng)
    opening = "" if rng.random() < 0.1 else "a photo of "
    ending = " on a white background" if rng.random() < 0.15 else ""
    return (
        np.asarray(image),
        f"{opening}{partial}{ending}",
        f"a photo of {full} on a white background",
    )


def _names_of_cut_out(who: Character, part: str, rng: np.random.Generator) -> tuple[str, str]:
    """Name a cut-out partially and in full; `part` "whole" is the figure."""
    if part == "whole":
        return phrase(who, rng), f"{phrase(who, full=True)} {name_of(who) or ''}"
    if part in _BODY:
        name = str(rng.choice(_BODY[part]))
        return name, name
    colour = "none" if part == "accessory" else getattr(who, f"{part}_colour")
    item = Item(
        part,
        getattr(who, part),
        colour,
        0.5,
        0.5,
        1.0,
        who.pattern if part == "top" else "plain",
        who.style,
    )
    partial = article(item.kind) if rng.random() < 0.3 else item_phrase(item, rng)
    if (owner := name_of(who)) is not None and rng.random() < OWNERS:
        partial = f"{owner} 's {item.kind}"
    return partial, item_phrase(item)
