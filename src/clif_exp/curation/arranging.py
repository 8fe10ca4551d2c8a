"""Two figures that do not stand side by side: hugging, one behind the other, one above the other.

CLIF composes its cut-outs side by side (section 4.1); these arrangements are an extension. The
ranges follow `toonworld.placing`, whose images the judges of interactions know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from clif_exp.curation.settings import Arrangement, MixSettings

Box = tuple[int, int, int, int]  # left, top, right, bottom in px
Side = Literal[-1, 1]  # of the first figure: left or right

SIDES: dict[Arrangement, tuple[str, str]] = {
    "behind": ("behind", "front"),
    "above": ("above", "below"),
}
"""Arrangement -> what the manifest calls the first and the second one's place, where not a side."""

_BEHIND_SIZE = 0.97  # of the one behind
_BEHIND_APART = (0.35, 0.65)  # of the middles, share of the mean width
_BEHIND_RAISE = (0.06, 0.14)  # of the feet of the one behind, share of the image
_HUG_OVERLAP = (0.22, 0.36)  # share of the narrower one's width


def arrange(
    arrangement: Arrangement,
    sizes: Sequence[tuple[int, int]],
    *,
    settings: MixSettings,
    place: tuple[float, float],
    rng: np.random.Generator,
) -> list[Box]:
    """Place two figures so that `first arrangement second` is true of the image.

    Args:
        arrangement: any but "side".
        sizes: width and height in px of both figures; each fits its half of the canvas.
        settings: canvas and margin.
        place: of both together, shares of the room that is left, from the left and from the top.
        rng: of this image.

    Returns:
        Boxes inside the canvas, in px.
    """
    (w1, h1), (w2, h2) = np.array(sizes, float)
    side: Side = -1 if rng.random() < 0.5 else 1
    if arrangement == "behind":
        apart = rng.uniform(*_BEHIND_APART) * (w1 + w2) / 2
        rise = rng.uniform(*_BEHIND_RAISE) * settings.resolution
        w1, h1 = w1 * _BEHIND_SIZE, h1 * _BEHIND_SIZE
    elif arrangement == "hugging":
        apart, rise = (w1 + w2) / 2 - rng.uniform(*_HUG_OVERLAP) * min(w1, w2), 0.0
    else:
        assert arrangement == "above", arrangement
        gap = settings.margin * settings.resolution
        apart, rise = rng.uniform(0.0, 0.5) * abs(w1 - w2), h2 + gap
    # The second one stands at the origin: middle and feet.
    boxes = np.array(
        [
            (side * apart - w1 / 2, -rise - h1, side * apart + w1 / 2, -rise),
            (-w2 / 2, -h2, w2 / 2, 0.0),
        ]
    )
    return _fit(boxes, settings=settings, place=place)


def arranged_caption(
    arrangement: Arrangement,
    templates: Sequence[str],
    *,
    names: tuple[str, str],
    left: int,
    rng: np.random.Generator,
) -> str:
    """Say how two figures stand, beginning with the one on the left wherever a template allows it.

    People name what they see from left to right, and ToonWorld's captions do: its U-Net reads off
    them who stands where. Captions that left it open would teach the mean of both arrangements.

    Args:
        arrangement: any but "side".
        templates: with {first} and {second}; where one figure is above the other, any will do.
        names: of the first and the second figure.
        left: which of them, 0 or 1, is further to the left.
        rng: of this image.

    Returns:
        A caption.
    """
    orders = [(names, left)]
    if arrangement == "hugging":  # both do, so either may be the first
        orders.append((names[::-1], 1 - left))
    captions = [
        (
            template.format(first=first, second=second),
            template.index(("{first}", "{second}")[left_one]) == template.index("{"),
        )
        for template in templates
        for (first, second), left_one in orders
    ]
    from_left = [text for text, begins in captions if begins and arrangement != "above"]
    said = from_left or [text for text, _ in captions]
    return said[int(rng.integers(len(said)))]


def keep_visible(
    boxes: Sequence[Box],
    shapes: Sequence[np.ndarray],
    *,
    front: int,
    min_visible: float,
    resolution: int,
    margin: int,
) -> list[Box]:
    """Move two figures apart until enough of the covered one can be seen.

    Args:
        boxes: of both figures.
        shapes: what each figure covers of its box, bool [h, w].
        front: the one that covers the other.
        min_visible: smallest visible share of the other.
        resolution: side of the canvas in px.
        margin: border that stays free, in px.

    Returns:
        Boxes; those given if enough is visible already.
    """
    found = list(boxes)
    behind = 1 - front
    middles = [box[0] + box[2] for box in found]
    outwards = -1 if middles[behind] < middles[front] else 1
    step = max(1, resolution // 128)
    while visible_share(found, shapes, front=front) < min_visible:
        # Where there is no room for the one, the other makes way.
        moved = _shifted(found[behind], outwards * step, resolution=resolution, margin=margin)
        if moved == found[behind]:
            behind_stays = found[front]
            moved = _shifted(found[front], -outwards * step, resolution=resolution, margin=margin)
            # Each fits its half of the canvas, so both fit beside each other.
            assert moved != behind_stays, (boxes, min_visible)
            found[front] = moved
        else:
            found[behind] = moved
    return found


def visible_share(boxes: Sequence[Box], shapes: Sequence[np.ndarray], *, front: int) -> float:
    """Return the share of the covered figure that the one in front leaves visible, in [0, 1]."""
    behind = 1 - front
    own, other = boxes[behind], boxes[front]
    left, top = max(own[0], other[0]), max(own[1], other[1])
    right, bottom = min(own[2], other[2]), min(own[3], other[3])
    area = int(shapes[behind].sum())
    if left >= right or top >= bottom or not area:
        return 1.0
    both = (
        shapes[behind][top - own[1] : bottom - own[1], left - own[0] : right - own[0]]
        & shapes[front][top - other[1] : bottom - other[1], left - other[0] : right - other[0]]
    )
    return 1.0 - int(both.sum()) / area


def _fit(boxes: np.ndarray, *, settings: MixSettings, place: tuple[float, float]) -> list[Box]:
    """Shrink both figures until they fit together, and put them where the room allows."""
    margin = round(settings.margin * settings.resolution)
    room = settings.resolution - 2 * margin
    extent = boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)
    boxes = boxes * min(1.0, *(room / extent))
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    boxes = boxes + np.tile(margin + np.array(place) * (room - (high - low)) - low, 2)
    found: list[Box] = []
    for x0, y0, x1, y1 in boxes:
        width, height = max(1, int(x1 - x0)), max(1, int(y1 - y0))
        left = min(max(round(x0), margin), settings.resolution - margin - width)
        top = min(max(round(y1) - height, margin), settings.resolution - margin - height)
        found.append((left, top, left + width, top + height))
    return found


def _shifted(box: Box, by: int, *, resolution: int, margin: int) -> Box:
    width = box[2] - box[0]
    left = min(max(box[0] + by, margin), resolution - margin - width)
    return left, box[1], left + width, box[3]
