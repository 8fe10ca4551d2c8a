"""What each room's settings may be; see `clif_exp.config`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """No unknown keys, no silent conversions (1 for 1.0 is none)."""

    model_config = ConfigDict(extra="forbid", strict=True)


Augmentation = Captioner = Contrastive = Diffusion = Evaluation = Generation = Method = Model = Segmenter = dict[str, Any]
