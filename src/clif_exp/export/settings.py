"""Settings of export."""

from __future__ import annotations

from typing import ClassVar

from clif_exp.settings import StageSettings


class ExportSettings(StageSettings):
    """There is nothing to set; only the version of what is written."""

    VERSION: ClassVar[int] = 3
