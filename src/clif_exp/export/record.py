"""What an export says of itself to programs, in its model card's front matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KEY = "clif_exp"
INFERENCE = "inference"  # the Hub's key for how a model is sampled
_SAMPLING = {"guidance_scale": float, "num_inference_steps": int}


@dataclass(frozen=True)
class Record:
    """What merging needs of an export and its files do not say.

    Attributes:
        name: of the export, another one for other weights (`stage.export_name`).
        family: of the base model, a key of `families.FAMILIES`.
        weights: of the base model, as `spec.customised_weights` returns.
        resolution: side of the images in px.
        method: what customised the concepts.
        concepts: name -> class word.
        regional: where its run drew each concept in its own part of the image, the weight of the
            part's own text; None: plainly, or by an earlier version.
    """

    name: str
    family: str
    weights: str
    resolution: int
    method: str
    concepts: Mapping[str, str]
    regional: float | None = None

    def front_matter(self) -> dict[str, Any]:
        """Return what the front matter holds, plain."""
        return {KEY: asdict(self) | {"concepts": dict(self.concepts)}}


def read_record(card: Mapping[str, Any], export: Path) -> Record:
    """Return an export's record.

    Args:
        card: as `reading.read_card` returns.
        export: its folder.

    Raises:
        ValueError: the card has none.
    """
    try:
        return Record(**card[KEY])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{export / 'README.md'}: does not say what was trained on which weights: an earlier"
            " version wrote it. Give its run's command again, which writes only the export anew."
        ) from error


def sampling_matter(sampling: Mapping[str, float]) -> dict[str, Any]:
    """Return the front matter that says how a run drew its images.

    Args:
        sampling: `guidance_scale` and `num_inference_steps`.
    """
    return {INFERENCE: {"parameters": {key: sampling[key] for key in _SAMPLING}}}


def read_sampling(card: Mapping[str, Any]) -> dict[str, float]:
    """Return how the images of a card's run were drawn, as far as it says; users edit cards."""
    section = card.get(INFERENCE)
    stated = section.get("parameters") if isinstance(section, Mapping) else None
    if not isinstance(stated, Mapping):
        return {}
    return {
        key: kind(stated[key])
        for key, kind in _SAMPLING.items()
        if isinstance(stated.get(key), int | float)
    }


def read_regional(card: Mapping[str, Any]) -> float | None:
    """Return the weight by which a card's run drew each concept in its own part of the image."""
    stated = card.get(KEY)
    weight = stated.get("regional") if isinstance(stated, Mapping) else None
    return float(weight) if isinstance(weight, int | float) and 0 < weight <= 1 else None


def read_resolution(card: Mapping[str, Any]) -> int | None:
    """Return the side in px of the images that a card's concepts were trained on, if it says."""
    stated = card.get(KEY)
    side = stated.get("resolution") if isinstance(stated, Mapping) else None
    return side if isinstance(side, int) and side > 0 else None
