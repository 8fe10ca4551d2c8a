"""What each metric means, in the words that the report and the trackers show."""

from __future__ import annotations

from dataclasses import dataclass

HIGHER, LOWER = "↑", "↓"


@dataclass(frozen=True)
class MetricGuide:
    """A metric's name in tables, the direction that is better, its range, and its meaning in a
    sentence or two.
    """

    title: str
    better: str
    range: str
    meaning: str


GUIDE: dict[str, MetricGuide] = {
    "identity": MetricGuide(
        "Identity",
        HIGHER,
        "0 to 1",
        "Share of a concept's visible attributes that its figure shows. Concepts without a figure"
        " are left out.",
    ),
    "leakage": MetricGuide(
        "Leakage",
        LOWER,
        "-1 to 1",
        "Of the visible attributes on which the named concepts differ, the share that shows the"
        " other's value. The same error in single-concept images is subtracted, so 0 means that"
        " company adds none.",
    ),
    "attribute_binding": MetricGuide(
        "Attribute binding",
        HIGHER,
        "0 to 1",
        "Share of the attributes shown that stand on the right part of the right figure. "
        "The rest moved from another part or another concept.",
    ),
    "attendance": MetricGuide(
        "Attendance",
        HIGHER,
        "0 to 1",
        "Share of the named concepts that are in the image, wherever they stand. Partly hidden is"
        " not missing.",
    ),
    "duplicates": MetricGuide(
        "Duplicates",
        LOWER,
        "0 and up",
        "Figures per image that stand for a named concept beyond the one asked for.",
    ),
    "side": MetricGuide(
        "Side",
        HIGHER,
        "0 to 1",
        "Share of the prompted positions (left, right) that are kept, where both concepts are"
        " there. Chance is 0.5.",
    ),
    "confusion": MetricGuide(
        "Confusion",
        LOWER,
        "0 to 1",
        "Share of images in which not everything is right: every named concept there once,"
        " recognisable, without a leaked attribute.",
    ),
    "text_alignment": MetricGuide(
        "Text alignment",
        HIGHER,
        "0 to 2.5",
        "2.5 x cosine of image and prompt, concepts named by their class words, by a CLIP unused"
        " in training.",
    ),
    "image_alignment": MetricGuide(
        "Image alignment",
        HIGHER,
        "-1 to 1",
        "Mean cosine between generated images and the concepts' references, by the same CLIP.",
    ),
    "image_alignment_dino": MetricGuide(
        "Image alignment (DINO)", HIGHER, "-1 to 1", "As image alignment, by DINO's class token."
    ),
}
PRIOR_MEANING = (
    "Prompts without any concept, before and after customising, by the same judges: what"
    " customisation broke. Identity and attendance compare with what the prompt describes."
)
HEADLINES = (
    "multi/confusion",
    "multi/identity",
    "multi/leakage",
    "multi/attendance",
    "multi/attribute_binding",
    "single/identity",
)
