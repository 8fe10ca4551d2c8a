"""Settings of `model=`: which base models a run uses."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from clif_exp.base_models.families import FAMILIES
from clif_exp.settings import Strict, Word


def _known(family: str) -> str:
    if family not in FAMILIES:
        raise ValueError(f"choose from {', '.join(FAMILIES)}")
    return family


class ModelSettings(Strict):
    """The base models; found, pinned and checked by `spec.resolve`.

    Attributes:
        family: which record of `families` describes them.
        path: a diffusers pipeline, a local folder or a hub id; None: the packaged one, where the
            family has one.
        revision: commit of a hub id; None takes the newest.
        contrastive: text encoder -> CLIP checkpoint whose text tower is the pipeline's.
        resolution: side of the images in px.
        segmenter_checkpoint: SAM weights; None leaves the choice to the segmenter's settings.
        domain: the only kind of images that the models know, as a dataset's `domain`; None: any.
    """

    family: Annotated[str, AfterValidator(_known)]
    path: str | None
    revision: str | None
    contrastive: dict[str, str]
    resolution: Annotated[int, Field(ge=32, le=8192, multiple_of=8)]
    segmenter_checkpoint: str | None
    domain: Word | None

    @model_validator(mode="after")
    def _encoders(self) -> Self:
        known = FAMILIES[self.family].encoders
        for encoder in self.contrastive:
            if encoder not in known:
                raise ValueError(
                    f"contrastive: found {encoder!r}; {self.family} has {' and '.join(known)}"
                )
        return self
