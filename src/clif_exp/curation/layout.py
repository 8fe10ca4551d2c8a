"""How augmented images are laid out: the settings of G-, R- and M-Aug, checked. Light to import:
configs are checked with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["G", "R", "M"]
FIELDS: dict[str, str] = {
    "G": "global",
    "R": "region",
    "M": "mix",
}  # kind -> its name in conf/augmentation


@dataclass(frozen=True)
class Layout:
    """How images are laid out; all lengths are shares of the canvas.

    Args:
        resolution: side of the square canvas in px.
        scale: smallest and largest size, as a share of the largest one that fits its place.
        margin: distance kept from the canvas's edge.
        vertical: where in the free height a figure stands, from 0 (top) to 1 (bottom).
        max_overlap: how far a figure may reach into its neighbour's place, as a share of a place's
            width.
        flip: probability that a figure is mirrored.
        templates: captions of two figures, with {left} and {right}.
        row_template: caption of three or more, with {row}.
        figures: number of figures -> its probability (M only).
        group_size: concepts per group (G and R).
        canvas: white or generated.
        name_background: whether the caption says what the generated background is.
    """

    resolution: int = 128
    scale: tuple[float, float] = (0.7, 1.0)
    margin: float = 0.03
    vertical: tuple[float, float] = (0.0, 1.0)
    max_overlap: float = 0.0
    flip: float = 0.5
    templates: Sequence[str] = ("a photo of {left} on the left and {right} on the right",)
    row_template: str = "a photo of {row} in a row"
    figures: Mapping[int, float] = field(default_factory=lambda: {2: 1.0})
    group_size: int = 4
    canvas: str = "white"
    name_background: bool = False


def read_layout(kind: Kind, settings: Mapping[str, Any]) -> tuple[int, Layout]:
    """Check the settings of one kind of augmentation.

    Args:
        kind: G, R or M.
        settings: `num_pairs` and the fields of `Layout`.

    Returns:
        Number of pairs, layout.

    Raises:
        ValueError: names the field, what was found and what would do.
    """
    name = FIELDS.get(kind)
    if name is None:
        raise ValueError(f"kind: found {kind!r}. Choose G, R or M.")
    values = {key: value for key, value in settings.items() if key != "num_pairs"}
    unknown = sorted(set(values) - set(Layout.__dataclass_fields__))
    if unknown:
        raise ValueError(
            f"augmentation.{name}: unknown key {unknown[0]!r}. Keys are num_pairs,"
            f" {', '.join(Layout.__dataclass_fields__)}."
        )
    num_pairs = settings.get("num_pairs", 0)
    if not isinstance(num_pairs, int) or num_pairs < 0:
        raise ValueError(
            f"augmentation.{name}.num_pairs: found {num_pairs!r}. Give a whole number, 0 to leave"
            f" {kind}-Aug out."
        )
    fields: dict[str, Any] = {
        key: tuple(value) if key in ("scale", "vertical") else value
        for key, value in values.items()
    }
    layout = Layout(**fields)
    if not 0 < layout.scale[0] <= layout.scale[1] <= 1:
        raise ValueError(
            f"augmentation.{name}.scale: found {list(layout.scale)}. Give two numbers, 0 < smallest"
            " <= largest <= 1."
        )
    if not 0 <= layout.max_overlap <= 0.5 or not 0 <= layout.margin <= 0.2:
        raise ValueError(
            f"augmentation.{name}: max_overlap must lie in [0, 0.5] and margin in [0, 0.2]; found"
            f" {layout.max_overlap}, {layout.margin}."
        )
    if not 0 <= layout.vertical[0] <= layout.vertical[1] <= 1:
        raise ValueError(
            f"augmentation.{name}.vertical: found {list(layout.vertical)}. Give two numbers, 0 <="
            " highest <= lowest <= 1."
        )
    if layout.canvas not in ("white", "generated"):
        raise ValueError(
            f"augmentation.{name}.canvas: found {layout.canvas!r}. Choose white or generated."
        )
    for template in layout.templates:
        if "{left}" not in template or "{right}" not in template:
            raise ValueError(
                f"augmentation.{name}.templates: {template!r} lacks {{left}} or {{right}}."
            )
    if any(
        not 2 <= int(count) <= 6 or float(p) < 0 for count, p in layout.figures.items()
    ) or not sum(map(float, layout.figures.values())):
        raise ValueError(
            f"augmentation.{name}.figures: found {dict(layout.figures)}. Map 2 to 6 figures to"
            " probabilities."
        )
    return num_pairs, layout
