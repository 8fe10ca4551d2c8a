"""Settings of segmenters, conf/segmenter: what finds masks, and which of them it takes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from clif_exp.settings import (
    INDIRECT,
    SPEED,
    AboveZero,
    Count,
    NotNegative,
    Positive,
    Share,
    StageSettings,
    Strict,
)


class SamSettings(Strict):
    """Segment Anything's automatic masks; see `segmenters.sam.SamSegmenter`.

    Attributes:
        checkpoint: an official file, owner/repository/file of the hub, a folder with ToonWorld's
            small SAM, or None: what `model=` names.
        model_type: None reads it off the weights.
        sha256: hex digest that the checkpoint must have; None skips the check.
        points_per_side: grid of point prompts; 32 finds more small parts at four times 16's cost.
        points_per_batch: points decoded at once; None: 32 on a CPU, else 256.
        images_per_batch: images encoded at once.
        iou_threshold: masks whose quality SAM itself predicts below this are dropped.
        stability_threshold: masks whose area depends on the cut-off are dropped below this.
        stability_offset: logits by which the cut-off is shifted for that.
        nms_threshold: of two masks whose boxes overlap more than this (IoU) the better one stays.
        mixed_precision: encode images in bf16; masks are no longer exact to the pixel.
    """

    checkpoint: str | None
    model_type: Literal["vit_b", "vit_l", "vit_h"] | None
    sha256: str | None
    points_per_side: Positive
    points_per_batch: Annotated[Positive | None, SPEED]
    images_per_batch: Annotated[int, Field(ge=1), SPEED]
    iou_threshold: Share
    stability_threshold: Share
    stability_offset: AboveZero
    nms_threshold: Share
    mixed_precision: bool


class RegionSettings(Strict):
    """scikit-image's regions and a graph cut between them; see `segmenters.regions`.

    Attributes:
        scales: Felzenszwalb's scale, one pass per value; larger gives larger regions.
        sigma: blur in px before segmenting.
        min_size: smallest region, share of the image.
        rounds: how often the cut refits its colour models.
        smoothness: higher gives smoother outlines and loses thin parts.
        centrality: how much being in the middle counts for a region.
    """

    scales: Annotated[list[AboveZero], Field(min_length=1)]
    sigma: NotNegative
    min_size: Share
    rounds: Count
    smoothness: NotNegative
    centrality: NotNegative


# Given masks need no segmenter; images without one, parts and contexts still do.
SEGMENTERS: dict[str, type[Strict]] = {
    "sam": SamSettings,
    "felzenszwalb": RegionSettings,
    "provided": RegionSettings,
}
"""Name of a segmenter -> what its `settings` may hold."""


class ChooseSettings(Strict):
    """Which mask is the concept; see `selection.choose_whole`, which takes all of this.

    Attributes:
        weights: measure -> how much it counts.
        min_area: smallest share of the image.
        max_area: largest share of the image.
        max_border: share of the image's border beyond which a mask is background.
    """

    weights: dict[
        Literal[
            "centrality", "area", "border", "foreground", "compactness", "similarity", "confidence"
        ],
        float,
    ]
    min_area: Share
    max_area: Share
    max_border: Share


class OverSegmentationSettings(Strict):
    """Which masks are the concept's parts; see `parts.over_segment`, which takes all of this.

    Attributes:
        inside: share of a part that must lie within the concept.
        min_area: smallest share of the concept.
        max_area: largest share of the concept.
        nms: parts that overlap more than this (IoU) are one.
        max_parts: parts kept per image.
    """

    inside: Share
    min_area: Share
    max_area: Share
    nms: Share
    max_parts: Count


class SegmenterSettings(StageSettings):
    """conf/segmenter.

    Attributes:
        name: which of SEGMENTERS.
        target: "package.module:callable" of a user's own segmenter, which gets `settings` as they
            are.
        settings: the segmenter's own settings.
        max_side: longer side in px that images are shrunk to before; larger ones take more memory
            than their cut-outs are worth at any canvas. Masks are written in the images' own size.
        choose: which mask is the concept.
        over_segmentation: which masks are its parts.
        fallback: where nothing is found try scikit-image's regions before giving up.
    """

    VERSION: ClassVar[int] = 4

    name: Literal["sam", "provided", "felzenszwalb"]
    target: str | None
    settings: Any
    max_side: Annotated[int, Field(ge=256), INDIRECT]
    choose: ChooseSettings
    over_segmentation: OverSegmentationSettings
    fallback: bool

    def own(self) -> dict[str, Any]:
        """Return the segmenter's own settings as keyword arguments; those of a target unchecked."""
        if self.target is not None:
            return dict(self.settings or {})
        return dict(SEGMENTERS[self.name].model_validate(self.settings))
