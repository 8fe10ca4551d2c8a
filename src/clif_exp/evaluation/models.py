"""Where ToonWorld's judging models lie, and what a reader may need beside its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.concepts.concept import ConceptImage


def packaged_model(spec: BaseModels, name: str) -> Path:
    """Return the folder `name` beside the base models, else the packaged one.

    Replaced base models thereby bring their own judges.
    """
    from clif_exp.base_models.spec import packaged_weights

    beside = Path(str(spec.path)).expanduser().resolve().parent / name
    return beside if beside.is_dir() else packaged_weights() / name


@dataclass(frozen=True)
class ReaderInputs:
    """What a reader may need to be built, beside its settings.

    Attributes:
        spec: base models, beside which ToonWorld's oracle lies.
        references: concept -> reference images.
        device: torch device.
    """

    spec: BaseModels
    references: Mapping[str, Sequence[ConceptImage]]
    device: str
