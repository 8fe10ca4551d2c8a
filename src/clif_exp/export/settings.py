"""Settings of export, conf/export."""

from __future__ import annotations

from typing import ClassVar

from clif_exp.settings import Positive, StageSettings


class ExportSettings(StageSettings):
    """Files for other tools.

    Attributes:
        lora_rank: of the LoRA that stands for whole weights (diffusion.unet=weights) in ComfyUI and
            A1111, at least 1; a trained LoRA keeps its own rank.
    """

    VERSION: ClassVar[int] = 8

    lora_rank: Positive
