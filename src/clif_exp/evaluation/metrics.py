"""Every metric, stated once: where it exists, its direction, range and meaning, and its function.

The config's `objective`, the stage, the terminal's table, the report and README's table follow from
METRICS. Importing this costs nothing: the functions import what they need when they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from clif_exp.evaluation import alignment, confusion, detect_and_compare
from clif_exp.evaluation.alignment import EmbeddedBatch
from clif_exp.evaluation.confusion import Judgement, Values

Group = Literal["single", "multi", "prior"]

BASE_GROUPS: dict[str, Group] = {
    "prior_before": "prior",
    "class_word": "single",
    "stage1": "single",
}
"""Groups of the untouched base model's images -> the kind of their prompts.

`prior_before` is its `prior`, `class_word` its `single` with class words for concepts, and `stage1`
its `single` with nothing but what stage 1 trained.
"""

REDRAWN = ("plain", "regional")
"""Groups of images that are drawn again, plainly or by region: judged one by one, in no metric."""

GROUPS = ("class_word", "stage1", "single", "multi", "prior_before", "prior")
"""Groups in summary.json, in the order of tables."""

IMAGE_COUNT = "pictures"
"""Name in summary.json of the number of images behind a group's metrics."""


@dataclass(frozen=True)
class Metric:
    """A row of METRICS; exactly one of `judged` and `scored` measures it.

    Attributes:
        name: its name in summary.json, behind the group.
        title: its name in the report.
        groups: where it exists; those of BASE_GROUPS have what their prompts' kind has.
        better: which direction is better.
        range: the least and the largest possible value; None: no bound in that direction.
        meaning: one or two sentences for users.
        judged: measures one image whose figures were read. The metric is the mean over all values
            of all images; None where there is none.
        scored: measures a batch of images by their embeddings: one score per image (None: does not
            apply to it), or None if the judge lacks the model. The metric is the mean over images.
        compared: the groups in which a comparison of runs shows it unless told otherwise.
        beyond_single: subtract from every value the mean of the same pair in single-concept images,
            or the mean of all pairs where it was not measured.
    """

    name: str
    title: str
    groups: tuple[Group, ...]
    better: Literal["higher", "lower"]
    range: tuple[float | None, float | None]
    meaning: str
    judged: Callable[[Judgement], Values] | None = None
    scored: Callable[[EmbeddedBatch], Sequence[float | None] | None] | None = None
    compared: tuple[Group, ...] = ()
    beyond_single: bool = False

    def __post_init__(self) -> None:
        assert (self.judged is None) != (self.scored is None), self.name
        assert self.range != (None, None), self.name

    @property
    def arrow(self) -> str:
        """The better direction: ↑ or ↓."""
        return "↑" if self.better == "higher" else "↓"

    @property
    def span(self) -> str:
        """The range in words: `0 to 1`, `0 and up`, `up to 1`."""
        low, high = self.range
        if low is None:
            return f"up to {high:g}"
        return f"{low:g} and up" if high is None else f"{low:g} to {high:g}"


METRICS: tuple[Metric, ...] = (
    Metric(
        name="identity",
        title="Identity",
        groups=("single", "multi", "prior"),
        better="higher",
        range=(0, 1),
        meaning="Share of a concept's visible attributes (species, hat, colours, ...) that its"
        " figure shows. Hidden parts do not count, and concepts without a figure are left out.",
        judged=confusion.identity,
        compared=("single", "multi", "prior"),
    ),
    Metric(
        name="attribute_binding",
        title="Attribute binding",
        groups=("single", "multi", "prior"),
        better="higher",
        range=(0, 1),
        meaning="Of the attributes that are in the right place or were moved there from another"
        " part or another concept, the share in the right place. Wrong values that belong nowhere"
        " else do not count.",
        judged=confusion.attribute_binding,
    ),
    Metric(
        name="attendance",
        title="Attendance",
        groups=("single", "multi", "prior"),
        better="higher",
        range=(0, 1),
        meaning="Share of the named concepts that are in the image, wherever they stand. Partly"
        " hidden is not missing.",
        judged=confusion.attendance,
        compared=("multi",),
    ),
    Metric(
        name="duplicates",
        title="Duplicates",
        groups=("single", "multi", "prior"),
        better="lower",
        range=(0, None),
        meaning="Figures per image that stand for a named concept beyond the one asked for.",
        judged=confusion.duplicates,
    ),
    Metric(
        name="leakage",
        title="Leakage",
        groups=("multi",),
        better="lower",
        range=(-1, 1),
        meaning="Of the visible attributes on which the named concepts differ, the share that shows"
        " the other's value, minus the same error in single-concept images. At 0, a second concept"
        " in the prompt adds no error.",
        judged=confusion.leakage,
        compared=("multi",),
        beyond_single=True,
    ),
    Metric(
        name="leakage_uncorrected",
        title="Leakage, uncorrected",
        groups=("multi",),
        better="lower",
        range=(0, 1),
        meaning="Leakage without subtracting the error of single-concept images.",
        judged=confusion.leakage,
    ),
    Metric(
        name="side",
        title="Side",
        groups=("multi",),
        better="higher",
        range=(0, 1),
        meaning="Where the prompt says left and right, the share of neighbours that stand in that"
        " order; only neighbours that are both in the image count. Chance is 0.5.",
        judged=confusion.side,
    ),
    Metric(
        name="confusion",
        title="Confusion",
        groups=("multi",),
        better="lower",
        range=(0, 1),
        meaning="1 minus the share of images with every named concept there once, recognisable"
        " (identity of at least evaluation.identity_threshold) and without a leaked attribute.",
        judged=confusion.confusion,
        compared=("multi",),
    ),
    Metric(
        name="intact",
        title="Intact",
        groups=("multi",),
        better="higher",
        range=(0, 1),
        meaning="Confusion in grades: the share of the named concepts that are there once,"
        " recognisable and without a leaked attribute, also where another one is not.",
        judged=confusion.intact,
        compared=("multi",),
    ),
    Metric(
        name="detect_and_compare",
        title="Detect-and-Compare",
        groups=("multi",),
        better="higher",
        range=(None, 1),
        meaning="MuDI's score (Jang et al., 2024): 1 minus the spectral norm of the difference of"
        " two matrices of similarities, figures to references and references to references; 0 for"
        " another number of figures than of named concepts. Compared by the CLIP of image"
        " alignment on ToonWorld, by evaluation.reader.features on real models.",
        scored=detect_and_compare.detect_and_compare,
    ),
    Metric(
        name="text_alignment",
        title="Text alignment",
        groups=("single", "multi", "prior"),
        better="higher",
        range=(0, 2.5),
        meaning="2.5 x max(cosine, 0) of image and prompt, concepts named by their class words, by"
        " a CLIP that training never uses.",
        scored=alignment.text_alignment,
        compared=("multi",),
    ),
    Metric(
        name="text_cosine",
        title="Text cosine",
        groups=("single", "multi", "prior"),
        better="higher",
        range=(-1, 1),
        meaning="The cosine behind text alignment, neither scaled nor cut off at 0.",
        scored=alignment.text_cosine,
    ),
    Metric(
        name="image_alignment",
        title="Image alignment",
        groups=("single", "multi"),
        better="higher",
        range=(-1, 1),
        meaning="Mean cosine of the image and the references of the concepts that its prompt names"
        " (images that training has not seen, where there are any), by the same CLIP.",
        scored=alignment.image_alignment,
        compared=("multi",),
    ),
    Metric(
        name="image_alignment_dino",
        title="Image alignment (DINO)",
        groups=("single", "multi"),
        better="higher",
        range=(-1, 1),
        meaning="As image alignment, by the class token of evaluation.judge.image_path.",
        scored=alignment.image_alignment_dino,
    ),
)


def kind_of_group(group: str) -> str:
    """The kind of a group's prompts: `multi` for `multi/pairs_seen`, `single` for `stage1`."""
    return BASE_GROUPS.get(group, group.split("/")[0])


def objectives() -> tuple[str, ...]:
    """What a sweep can optimise: `group/name` of every metric, as in summary.json."""
    return tuple(
        f"{group}/{metric.name}"
        for group in ("single", "multi", "prior", "stage1")
        for metric in METRICS
        if kind_of_group(group) in metric.groups
    )


def better_end(objective: str) -> Literal["higher", "lower"]:
    """Return which direction of one of `objectives()` is better."""
    name = objective.rpartition("/")[2]
    return next(metric.better for metric in METRICS if metric.name == name)


def compared() -> tuple[str, ...]:
    """What a comparison of runs shows unless told otherwise: `group/name`, as in summary.json."""
    return tuple(
        f"{group}/{metric.name}"
        for group in GROUPS
        for metric in METRICS
        if group in metric.compared
    )


def table_of_metrics(metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the columns (groups) and rows (metrics) of a table that shows these `group/name`s.

    Breakdowns such as `multi/pairs_seen/...` are left out.
    """
    known = {tuple(name.split("/")) for name in metrics if name.count("/") == 1}
    columns = [group for group in GROUPS if any(found[0] == group for found in known)]
    rows = [
        name
        for name in (*(metric.name for metric in METRICS), IMAGE_COUNT)
        if any((group, name) in known for group in columns)
    ]
    return columns, rows


def guide() -> list[dict[str, str]]:
    """What a reader of the numbers needs to know of each metric, as plain text."""
    return [
        {
            "name": metric.name,
            "title": metric.title,
            "arrow": metric.arrow,
            "better": f"{metric.better} is better",
            "range": metric.span,
            "meaning": metric.meaning,
        }
        for metric in METRICS
    ]


def markdown_table() -> str:
    """README's table of the metrics."""
    lines = ["| metric | groups | better | range | meaning |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| `{metric.name}` | {', '.join(metric.groups)} | {metric.arrow} | {metric.span}"
        f" | {metric.meaning} |"
        for metric in METRICS
    ]
    return "\n".join(lines)
