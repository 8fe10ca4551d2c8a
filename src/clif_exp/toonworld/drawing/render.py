"""Draws a `Scene`: image, visible part at every pixel, boxes, and what hides what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from clif_exp.toonworld.drawing.accessories import draw_accessory
from clif_exp.toonworld.drawing.backgrounds import WHITE_CANVAS, draw_background
from clif_exp.toonworld.drawing.clothes import (
    Outfit,
    draw_arms,
    draw_collar,
    draw_hood,
    draw_legs,
    draw_on_all_fours,
    draw_torso,
)
from clif_exp.toonworld.drawing.colours import RGB
from clif_exp.toonworld.drawing.ears import draw_ears
from clif_exp.toonworld.drawing.hats import draw_hat
from clif_exp.toonworld.drawing.heads import (
    draw_back_hair,
    draw_head,
    limb_material,
)
from clif_exp.toonworld.drawing.pen import Pen
from clif_exp.toonworld.drawing.tails import draw_tail
from clif_exp.toonworld.world import COLOURS, PARTS, Character, Figure, Item, Scene

LABELS_PER_FIGURE = 16
CARRY_SHIFT = (-0.26, 0.14)  # how far the head moves when its owner goes on all fours
# Extent of anything a figure can wear or do, in figure units: left, top, right, bottom.
_REACH = {"carry": (-0.68, -1.42, 0.68, 0.10), "other": (-0.48, -1.42, 0.48, 0.10)}
_ITEM_CENTRES = {
    "hat": (0.0, -1.03),
    "top": (0.0, -0.42),
    "bottom": (0.0, -0.20),
    "accessory": (0.0, -0.52),
}
_ACCESSORY_CENTRES = {
    "glasses": (0.0, -0.78),
    "scarf": (0.03, -0.46),
    "necktie": (0.0, -0.42),
    "eyepatch": (0.05, -0.79),
    "moustache": (0.0, -0.65),
}


@dataclass(frozen=True)
class Rendering:
    """A drawn scene. Elements are the scene's figures followed by its items.

    Attributes:
        image: uint8 RGB [H, W, 3].
        labels: 0 for the background, else 1 + element * 16 + part index in `PARTS`, of what is
            visible; uint8 [H, W].
        boxes: (x0, y0, x1, y1) in pixels of each element's visible pixels, x1 and y1 exclusive;
            None if hidden.
        visibility: per element, part -> share in [0, 1] of its pixels that no other element hides.
        areas: per element, part -> pixels it would cover if nothing hid it.
    """

    image: np.ndarray
    labels: np.ndarray
    boxes: tuple[tuple[int, int, int, int] | None, ...]
    visibility: tuple[dict[str, float], ...]
    areas: tuple[dict[str, int], ...]

    def mask(self, element: int) -> np.ndarray:
        """True where this element is visible, bool [H, W]."""
        return (self.labels > element * LABELS_PER_FIGURE) & (
            self.labels <= (element + 1) * LABELS_PER_FIGURE
        )


class _Paint:
    """Colours of one element, a little different in every image."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._shift = rng.normal(0, 4.0, (len(COLOURS), 3))
        self._names = {name: place for place, name in enumerate(COLOURS)}

    def __call__(self, name: str) -> RGB:
        if name == "none":
            return COLOURS["grey"]
        red, green, blue = (
            np.clip(np.add(COLOURS[name], self._shift[self._names[name]]), 0, 255)
            .astype(int)
            .tolist()
        )
        return red, green, blue


def _draw_character(pen: Pen, character: Character, pose: str, paint: _Paint) -> None:
    coat = paint(character.coat)
    outfit = Outfit(
        top=character.top,
        top_colour=paint(character.top_colour),
        pattern=character.pattern,
        bottom=character.bottom,
        bottom_colour=paint(character.bottom_colour),
        limb_arms=limb_material(character, coat, "arms"),
        limb_legs=limb_material(character, coat, "legs"),
    )
    head = CARRY_SHIFT if pose == "carry" else (0.0, 0.0)
    pen.shift = (0.28, -0.14) if pose == "carry" else (0.0, 0.0)
    draw_tail(pen, character.species, coat)
    pen.shift = head
    draw_back_hair(pen, character.species, coat)
    pen.shift = (0.0, 0.0)
    if pose == "carry":
        draw_on_all_fours(pen, outfit)
        pen.shift = head
        draw_hood(pen, outfit)
    else:
        draw_hood(pen, outfit)
        draw_legs(pen, outfit, pose)
        draw_torso(pen, outfit)
        draw_arms(pen, outfit, pose)
        draw_collar(pen, outfit)
    neck = character.accessory in ("scarf", "necktie")
    if neck:
        draw_accessory(pen, character.accessory)
    draw_ears(pen, character.species, coat)
    draw_head(pen, character, coat)
    if not neck:
        draw_accessory(pen, character.accessory)
    draw_hat(pen, character.hat, paint(character.hat_colour))


def _draw_item(pen: Pen, item: Item, paint: _Paint) -> None:
    colour = paint(item.colour)
    if item.part == "hat":
        draw_hat(pen, item.kind, colour)
    elif item.part == "accessory":
        draw_accessory(pen, item.kind, alone=True)
    else:
        top = item.kind if item.part == "top" else "shirt"
        bottom = item.kind if item.part == "bottom" else "none"
        outfit = Outfit(top, colour, item.pattern, bottom, colour, None, None)
        if item.part == "bottom":
            draw_legs(pen, outfit, "item")
        else:
            draw_hood(pen, outfit)
            draw_torso(pen, outfit)
            draw_arms(pen, outfit, "item")
            draw_collar(pen, outfit)


def _sheet(
    element: Figure | Item, *, size: int, rng: np.random.Generator
) -> tuple[Image.Image, np.ndarray, tuple[int, int]]:
    """Draw one element.

    Returns:
        RGBA sheet; its part labels, uint8 [h, w]; the pixel of its upper left corner.
    """
    unit, paint = element.scale * size, _Paint(rng)
    if isinstance(element, Figure):
        centre = (0.0, 0.0)
    else:
        centre = _ACCESSORY_CENTRES.get(element.kind, _ITEM_CENTRES[element.part])
    feet = (
        element.x * size - (-centre[0] if element.flip else centre[0]) * unit,
        element.y * size - centre[1] * unit,
    )
    carrying = isinstance(element, Figure) and element.pose == "carry"
    reach = _REACH["carry" if carrying else "other"]
    left, top = int(feet[0] + reach[0] * unit), int(feet[1] + reach[1] * unit)
    wide, high = int((reach[2] - reach[0]) * unit) + 2, int((reach[3] - reach[1]) * unit) + 2
    pen = Pen((wide, high), unit=unit, origin=(feet[0] - left, feet[1] - top), flip=element.flip)
    if isinstance(element, Figure):
        _draw_character(pen, element.character, element.pose, paint)
        style = element.character.style
    else:
        _draw_item(pen, element, paint)
        style = element.style
    sheet, labels = pen.finish(style, rng)
    return sheet, labels, (left, top)


def _shadow(image: Image.Image, figure: Figure, size: int) -> None:
    unit = figure.scale * size
    wide, shift = (
        (0.50, 0.08 * (-1 if figure.flip else 1)) if figure.pose == "carry" else (0.26, 0.0)
    )
    x, y = (figure.x * size + shift * unit), figure.y * size
    box = (
        int(x - wide * unit),
        int(y - 0.055 * unit),
        int(x + wide * unit) + 1,
        int(y + 0.045 * unit) + 1,
    )
    mask = Image.new("L", ((box[2] - box[0]) * 2, (box[3] - box[1]) * 2))
    ImageDraw.Draw(mask).ellipse((0, 0, mask.width - 1, mask.height - 1), fill=84)
    image.paste((24, 22, 40), box[:2], mask.reduce(2))


def draw_order(scene: Scene) -> list[int]:
    """Elements from the farthest to the nearest."""
    order = list(range(len(scene.figures) + len(scene.items)))
    if scene.interaction == "riding":
        order[:2] = [1, 0]
    return order


def render(scene: Scene, *, size: int = 128) -> Rendering:
    """Draw a scene on a square canvas of `size` pixels; the same scene gives the same bytes."""
    rngs = np.random.default_rng(scene.seed).spawn(1 + len(scene.figures) + len(scene.items))
    image = draw_background(scene.context, scene.style, size=size, rng=rngs[0])
    elements: list[Figure | Item] = [*scene.figures, *scene.items]
    labels = np.zeros((size, size), np.uint8)
    areas: list[dict[str, int]] = [{} for _ in elements]
    if scene.context != "white":
        for figure in scene.figures:
            if figure.pose != "sit":
                _shadow(image, figure, size)
    for index in draw_order(scene):
        sheet, parts, (left, top) = _sheet(elements[index], size=size, rng=rngs[1 + index])
        image.paste(sheet, (left, top), sheet)
        x0, y0, x1, y1 = (
            max(left, 0),
            max(top, 0),
            min(left + parts.shape[1], size),
            min(top + parts.shape[0], size),
        )
        window = parts[y0 - top : y1 - top, x0 - left : x1 - left]
        target = labels[y0:y1, x0:x1]
        np.copyto(target, window + np.uint8(index * LABELS_PER_FIGURE), where=window > 0)
        counts = np.bincount(parts.ravel(), minlength=len(PARTS) + 1)
        areas[index] = {
            part: int(counts[1 + place]) for place, part in enumerate(PARTS) if counts[1 + place]
        }
    shown = np.bincount(labels.ravel(), minlength=256)
    visibility = tuple(
        {
            part: float(shown[1 + index * LABELS_PER_FIGURE + PARTS.index(part)]) / area
            for part, area in areas[index].items()
        }
        for index in range(len(elements))
    )
    boxes = tuple(_box(labels, index) for index in range(len(elements)))
    return Rendering(np.asarray(image), labels, boxes, visibility, tuple(areas))


def _box(labels: np.ndarray, element: int) -> tuple[int, int, int, int] | None:
    mask = (labels > element * LABELS_PER_FIGURE) & (labels <= (element + 1) * LABELS_PER_FIGURE)
    xs, ys = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1) if xs.size else None


def cutout(
    character: Character, *, size: int = 128, pose: str = "down", flip: bool = False, seed: int = 0
) -> Image.Image:
    """Draw one character alone, RGBA [size, size], transparent around it."""
    figure = Figure(character, 0.5, 0.96, 0.66, flip, pose)
    sheet, _, corner = _sheet(figure, size=size, rng=np.random.default_rng(seed))
    canvas = Image.new("RGBA", (size, size), (*WHITE_CANVAS, 0))
    canvas.paste(sheet, corner)
    return canvas
