"""What each augmented image shows: drawn from (seed, kind, index) alone, in any order.

Pairs come in groups. A group shares everything but the concept: the same general concept (or part),
the same side, the same sizes and places. A batch made of whole groups cannot be solved by looking
at the context.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clif_exp.concepts.pairs import KIND_CODES, derived_rng, seen_pairs
from clif_exp.curation.arranging import SIDES, arrange, arranged_caption
from clif_exp.curation.contrasting import contrasted
from clif_exp.curation.library import Cutout, Library, Place, draw_place
from clif_exp.curation.settings import (
    Arrangement,
    ContrastSettings,
    Kind,
    MixSettings,
    PairSettings,
)
from clif_exp.prompts.articles import with_article


def plan_pair(
    kind: Kind, index: int, *, library: Library, settings: PairSettings, seed: int
) -> dict[str, Any]:
    """Decide everything about one augmented image.

    Args:
        kind: G (concept + general concept), R (concept's part + general part) or M (concepts).
        index: which image of its kind.
        library: what can be placed; must hold what the kind needs.
        settings: how it is laid out.
        seed: the augmentation's seed.

    Returns:
        The line of the manifest: file, caption, kind, seed, group, background, the source in front
        and all sources with px boxes; from left to right, or, with the key `arrangement`, as that
        names them. Where a stranger stands in the concept's place, the key `stranger` says which
        source it is.
    """
    code = KIND_CODES[kind]
    member_rng = derived_rng(seed, code, index)
    if isinstance(settings, MixSettings):
        cutouts = _mixed(index, library, settings.figures, seed)
        places = [draw_place(member_rng, settings) for _ in cutouts]
        group, group_rng = index, member_rng
        stranger = None
    else:
        assert isinstance(settings, ContrastSettings)
        cutouts, places, (group, group_rng), stranger = contrasted(
            kind, index, library, settings, seed, member_rng
        )
    phrases = [_phrase(cutout) for cutout in cutouts]
    background = (
        library.backgrounds[int(group_rng.integers(len(library.backgrounds)))]
        if settings.background_share
        and derived_rng(seed, code, group, 4).random() < settings.background_share
        else None
    )
    caption = _caption(phrases, settings, group_rng)
    line: dict[str, Any] = {
        "file": image_file(index),
        "caption": caption,
        "kind": kind,
        "seed": [seed, kind, index],
        "group": group,
        "background": background[0] if background else None,
        "front": int(member_rng.integers(len(cutouts))),
        "sources": [
            _source(
                cutout,
                place,
                settings,
                slot=slot,
                slots=len(cutouts),
                phrase=phrases[slot],
                mask=f"masks/{index:06d}_{slot}.png",
            )
            for slot, (cutout, place) in enumerate(zip(cutouts, places, strict=True))
        ],
    }
    if isinstance(settings, MixSettings) and len(cutouts) == 2:
        line |= _arranged(line, cutouts, places, settings, derived_rng(seed, code, index, 5))
    if stranger is not None:
        line["stranger"] = stranger
    if background and settings.name_background:
        line["caption"] = f"{line['caption']} {background[1]}"
    return line


def image_file(index: int) -> str:
    """Return the path of this index's image in its artifact."""
    return f"images/{index:06d}.png"


def side_name(slot: int, slots: int) -> str | int:
    """Name a place: left or right of two, the index from the left in a row of more."""
    return ("left", "right")[slot] if slots == 2 else slot


def _mixed(index: int, library: Library, figures: Mapping[int, float], seed: int) -> list[Cutout]:
    """Concepts of an M image, from left to right; only seen pairs stand in one image."""
    rng = derived_rng(seed, KIND_CODES["M"], index, 1)
    names = list(library.wholes)
    seen = seen_pairs(names)
    pairs = sorted(tuple(sorted(pair)) for pair in seen)
    # Every pair both ways before any comes again.
    ordered = [*pairs, *(pair[::-1] for pair in pairs)]
    turn, position = divmod(index, len(ordered))
    chosen = list(
        ordered[
            int(derived_rng(seed, KIND_CODES["M"], turn, 2).permutation(len(ordered))[position])
        ]
    )
    shares = np.array(list(figures.values()), float)
    wanted = int(rng.choice(list(figures), p=shares / sum(figures.values())))
    for name in (names[i] for i in rng.permutation(len(names))):
        if (
            len(chosen) < wanted
            and name not in chosen
            and all(frozenset((name, other)) in seen for other in chosen)
        ):
            chosen.insert(int(rng.integers(len(chosen) + 1)), name)
    return [library.wholes[name][int(rng.integers(len(library.wholes[name])))] for name in chosen]


def _arranged(
    line: Mapping[str, Any],
    cutouts: Sequence[Cutout],
    places: Sequence[Place],
    settings: MixSettings,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What changes in the line of two figures that do not stand side by side; else nothing.

    The choice has its own stream: with arrangements, images of pairs side by side stay the same.
    """
    shares = np.array(list(settings.arrangements.values()), float)
    chosen: Arrangement = list(settings.arrangements)[
        int(rng.choice(len(shares), p=shares / shares.sum()))
    ]
    if chosen == "side":
        return {}
    margin = round(settings.margin * settings.resolution)
    half = settings.resolution / 2 - 1.5 * margin
    boxes = arrange(
        chosen,
        [
            _size(cutout, place, half, settings.resolution - 2 * margin)
            for cutout, place in zip(cutouts, places, strict=True)
        ],
        settings=settings,
        place=(places[0].x, places[0].y),
        rng=rng,
    )
    order = np.argsort([box[0] + box[2] for box in boxes], kind="stable").tolist()
    sides = SIDES.get(chosen) or tuple(side_name(order.index(slot), 2) for slot in range(2))
    first, second = (source["name"] for source in line["sources"])
    return {
        "caption": arranged_caption(
            chosen,
            settings.arrangement_templates[chosen],
            names=(first, second),
            left=order[0],
            rng=rng,
        ),
        "arrangement": chosen,
        "front": 1 if chosen == "behind" else line["front"],
        "sources": [
            source | {"side": side, "box": list(box)}
            for source, side, box in zip(line["sources"], sides, boxes, strict=True)
        ],
    }


def can_stand_together(names: Sequence[str], count: int) -> bool:
    """Return whether there are so many concepts of which M-Aug may show every pair."""
    seen = seen_pairs(names)
    return any(
        all(frozenset(pair) in seen for pair in itertools.combinations(chosen, 2))
        for chosen in itertools.combinations(names, count)
    )


def _phrase(cutout: Cutout) -> str:
    if cutout.concept is None:
        return with_article(cutout.context or "")
    return f"<{cutout.concept}>'s {cutout.part}" if cutout.part else f"<{cutout.concept}>"


def _caption(phrases: Sequence[str], settings: PairSettings, rng: np.random.Generator) -> str:
    if len(phrases) == 2:
        template = settings.templates[int(rng.integers(len(settings.templates)))]
        return template.format(left=phrases[0], right=phrases[1])
    assert isinstance(settings, MixSettings), "G and R show two things"
    return settings.row_template.format(row=", ".join(phrases[:-1]) + f" and {phrases[-1]}")


def _source(
    cutout: Cutout,
    place: Place,
    settings: PairSettings,
    *,
    slot: int,
    slots: int,
    phrase: str,
    mask: str,
) -> dict[str, Any]:
    """Turn a place into a box in px: inside the canvas, its centre within its own slot."""
    side = settings.resolution
    margin = round(settings.margin * side)
    width = side / slots
    reach = settings.max_overlap * width / 2
    left = max(margin, slot * width - reach + (margin / 2 if slot else 0))
    right = min(side - margin, (slot + 1) * width + reach - (margin / 2 if slot < slots - 1 else 0))
    w, h = _size(cutout, place, right - left, side - 2 * margin)
    x0 = math.floor(left + place.x * (right - left - w))
    # The middle of a figure stays in its own slot, however far it reaches over: left is left.
    x0 = min(max(x0, math.ceil(slot * width - w / 2)), math.floor((slot + 1) * width - w / 2))
    x0 = min(max(x0, math.ceil(left)), math.floor(right - w))
    y0 = margin + math.floor(place.y * (side - 2 * margin - h))
    return {
        "concept": cutout.concept,
        "context": cutout.context,
        "part": cutout.part,
        "name": phrase,
        "side": side_name(slot, slots),
        "scale": place.scale,
        "flip": place.flip,
        "source": cutout.file,
        "root": cutout.root,
        "box": [x0, y0, x0 + w, y0 + h],
        "mask": mask,
    }


def _size(cutout: Cutout, place: Place, width: float, height: float) -> tuple[int, int]:
    """Width and height in px of a figure, from its share of the largest size that fits."""
    fit = min(width / cutout.width, height / cutout.height)
    return (
        max(1, math.floor(place.scale * fit * cutout.width)),
        max(1, math.floor(place.scale * fit * cutout.height)),
    )
