"""Settings of the figures that a study keeps, `figures` of `hydra.sweeper.keep`.

`from_saved` tells whether a figure can be made of runs.json alone, without images and artifacts.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clif_exp.prompts.evaluation import Layout
from clif_exp.settings import Positive, Strict

Pairs = Literal["any", "alike", "across_styles"]


class ImagesFigure(Strict):
    """The same prompts and seeds drawn by every group, side by side (the paper's Figs. 3, 7, 8).

    Which prompts is decided by these settings alone, in the order of the prompts, never by what was
    drawn. The images are those of the first cast and training seed that every group has.

    Attributes:
        kind: "images".
        layouts: of the prompts, which take turns: side, free, context, interaction, row.
        pairs: of which concepts: "alike", of one class word; "across_styles", drawn in several
            styles (ToonWorld); or "any".
        concepts: named in a prompt at least.
        rows: how many prompts, each of other concepts than those before as long as there are any.
    """

    kind: Literal["images"]
    from_saved: ClassVar[bool] = False
    layouts: Annotated[list[Layout], Field(min_length=1)]
    pairs: Pairs
    concepts: Positive
    rows: Positive


class DistanceFigure(Strict):
    """Confusion of pairs against the distance of their concepts (Fig. 2)."""

    kind: Literal["distance"]
    from_saved: ClassVar[bool] = False


class AttendanceFigure(Strict):
    """Attendance of each concept, by group (Fig. 9)."""

    kind: Literal["attendance"]
    from_saved: ClassVar[bool] = True


class AttentionFigure(Strict):
    """Where models look for the concepts of a pair, before and after each stage (Fig. 10).

    Attributes:
        kind: "attention".
        rows: prompts shown, the first ones of the first run; the numbers are of all.
    """

    kind: Literal["attention"]
    from_saved: ClassVar[bool] = False
    rows: Positive


class CurveFigure(Strict):
    """Metrics against a setting that the study sweeps, a line for each group.

    Attributes:
        kind: "curve".
        setting: its key, a number, such as diffusion.images_per_concept.
        metrics: as in summary.json, a panel for each.
    """

    kind: Literal["curve"]
    from_saved: ClassVar[bool] = True
    setting: Annotated[str, Field(min_length=1)]
    metrics: Annotated[list[str], Field(min_length=1)]


FigureSettings = Annotated[
    ImagesFigure | DistanceFigure | AttendanceFigure | AttentionFigure | CurveFigure,
    Field(discriminator="kind"),
]
