"""Settings of `model=`: which base models a run uses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from clif_exp.settings import Strict, Word


class ModelSettings(Strict):
    """The base models; found, pinned and checked by `spec.resolve`.

    Attributes:
        family: which record of `families` describes them.
        path: a diffusers pipeline, a local folder or a hub id; None (toonworld only): the packaged
            one.
        revision: commit of a hub id; None takes the newest.
        contrastive: text encoder -> CLIP checkpoint whose text tower is the pipeline's.
        resolution: side of the images in px.
        segmenter_checkpoint: SAM weights; None leaves the choice to the segmenter's settings.
        domain: the only kind of images that the models know, as a dataset's `domain`; None: any.
    """

    family: Literal["toonworld", "sd15", "sd21", "sdxl"]
    path: str | None
    revision: str | None
    contrastive: dict[Literal["text_encoder", "text_encoder_2"], str]
    resolution: Annotated[int, Field(ge=32, multiple_of=8)]
    segmenter_checkpoint: str | None
    domain: Word | None
