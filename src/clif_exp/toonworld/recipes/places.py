"""Targets of what is drawn where, for auxiliary heads on features of the U-Net and the oracle.

Regressing pixels teaches little about which word belongs where; classifying every place from noisy
latents and the caption teaches it directly. The idea is representation alignment (Yu et al. 2025,
REPA) with the renderer's truth as the teacher. Only the training of these base models uses the
labels; customisation never sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from clif_exp.toonworld.drawing.render import LABELS_PER_FIGURE
from clif_exp.toonworld.world import CONTEXTS, PARTS, PEOPLE, SLOTS, SPECIES, Figure, Item, Scene

_NAMED = ("hat", "top", "bottom", "accessory")
_COLOURS = SLOTS["hat_colour"][1:]
CLASSES: dict[str, tuple[str, ...]] = {
    "part": ("none", *PARTS),
    "species": SPECIES,
    "style": SLOTS["style"],
    "colour": _COLOURS,
    "kind": tuple(value for slot in _NAMED for value in SLOTS[slot] if value != "none"),
    "pattern": SLOTS["pattern"],
    "context": CONTEXTS,
}
IGNORED = -100


def targets(scenes: Sequence[Scene], labels_NHW: np.ndarray) -> np.ndarray:
    """Return the class indices of every place of a label map.

    Args:
        scenes: N scenes.
        labels_NHW: uint8, see `drawing.render.Rendering.labels`, of any resolution.

    Returns:
        int64 [N, len(CLASSES), H, W]; `IGNORED` where a question makes no sense.
    """
    return np.stack(
        [_table(scene)[:, labels_HW] for scene, labels_HW in zip(scenes, labels_NHW, strict=True)]
    )


ANSWERS = sum(map(len, CLASSES.values()))


def read(
    call: Callable[[], Any], *, layer: nn.Module, reader: nn.Module
) -> tuple[Any, list[Tensor]]:
    """Call a model and classify its places from the output of one of its layers.

    Args:
        call: runs the model.
        layer: its output [B, C, H, W] is classified.
        reader: head with `ANSWERS` output channels.

    Returns:
        What `call` returned, and float logits [B, classes, H, W] per question of `CLASSES`.
    """
    features: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _module, _inputs, output: features.append(output))
    try:
        result = call()
    finally:
        hook.remove()
    return result, list(
        reader(features[0]).float().split([len(values) for values in CLASSES.values()], dim=1)
    )


def _table(scene: Scene) -> np.ndarray:
    """Label -> answers, int64 [len(CLASSES), 256]."""
    table = np.full((len(CLASSES), 256), IGNORED, np.int64)
    elements: list[Figure | Item] = [*scene.figures, *scene.items]
    table[:, 0] = _indices({"part": "none", "context": scene.context, "style": scene.style})
    for number, element in enumerate(elements):
        for place, part in enumerate(PARTS):
            answers = (
                _of_figure(element, part) if isinstance(element, Figure) else _of_item(element)
            )
            table[:, 1 + number * LABELS_PER_FIGURE + place] = _indices(answers | {"part": part})
    return table


def _indices(answers: dict[str, str]) -> list[int]:
    return [
        values.index(answers[name]) if answers.get(name) in values else IGNORED
        for name, values in CLASSES.items()
    ]


def _of_figure(figure: Figure, part: str) -> dict[str, str]:
    who = figure.character
    answers = {"species": who.species, "style": who.style}
    if part in ("top", "arms"):
        return answers | {"colour": who.top_colour, "kind": who.top, "pattern": who.pattern}
    if part in ("hat", "bottom"):
        return answers | {"colour": getattr(who, f"{part}_colour"), "kind": getattr(who, part)}
    if part == "accessory":
        return answers | {"kind": who.accessory}
    if part == "hair" or (part in ("head", "tail") and who.species not in PEOPLE):
        return answers | {"colour": who.coat}
    return answers


def _of_item(item: Item) -> dict[str, str]:
    pattern = {"pattern": item.pattern} if item.part == "top" else {}
    return {"style": item.style, "colour": item.colour, "kind": item.kind} | pattern
