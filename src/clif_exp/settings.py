"""What settings are made of: strict models, shared types, and markers that fingerprints obey.

A room states type, range and meaning of each of its settings once, in a class in its
`settings.py`; defaults stand in conf/ only. From the markers follows what a fingerprint depends on.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Marker(Enum):
    """Why a setting stays out of the fingerprint; stands in its annotation."""

    SPEED = "it changes time or memory, but no result"
    INDIRECT = "it enters by what it leads to: a file's content, another setting"


SPEED, INDIRECT = Marker.SPEED, Marker.INDIRECT

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
# Bounds far above any use, where a slip of the finger would hang instead of being refused: things
# that are made one by one, images of one step, denoising steps (models are trained on 1,000).
Amount = Annotated[int, Field(ge=0, le=100_000)]
BatchSize = Annotated[int, Field(ge=1, le=16_384)]
DenoisingSteps = Annotated[int, Field(ge=1, le=1_000)]
Share = Annotated[float, Field(ge=0, le=1)]
# Above, single precision would overflow.
NotNegative = Annotated[float, Field(ge=0, le=1e30)]
AboveZero = Annotated[float, Field(gt=0, le=1e30)]
Range = Annotated[list[Share], Field(min_length=2, max_length=2)]
Word = Annotated[str, Field(min_length=1)]
# A folder's name has at most 255 bytes, up to four for a character.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+=-]*$", max_length=60)]
NAME_RULE = "it names a folder: use 1 to 60 letters, digits and . _ + = -, a letter or digit first"


class Strict(BaseModel):
    """Settings without unknown keys, silent conversions (1 for 1.0 is none), NaN and infinity."""

    model_config = ConfigDict(
        extra="forbid", strict=True, populate_by_name=True, frozen=True, allow_inf_nan=False
    )

    def relevant(self) -> dict[str, Any]:
        """Return what can change a result: all settings without a marker, as plain JSON values.

        Keys are those of the YAML (a field's alias where it has one).
        """
        return {
            field.alias or name: _plain(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if not any(isinstance(mark, Marker) for mark in field.metadata)
        }


class StageSettings(Strict):
    """A stage's settings; raise VERSION when the same settings and inputs give other results."""

    VERSION: ClassVar[int]


def _plain(value: Any) -> Any:
    if isinstance(value, Strict):
        return value.relevant()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
