"""What a run shows its trackers besides curves, gathered from what its stages published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.files import read_jsonl

if TYPE_CHECKING:
    from clif_exp.artifacts.store import Artifact

IMAGE_COLUMNS = ("group", "prompt", "seed", "identity", "leaks", "missing")
"""Of the table of images, beside the image itself."""

# Artifacts that a model comes from -> the tracker's type of them.
SOURCES = {
    "dataset": "dataset",
    "augment_G": "augmentation",
    "augment_R": "augmentation",
    "augment_M": "augmentation",
}
# Groups of images beside the run's own -> where they are.
_DRAWN_BY = {
    "prior_before": "generation_prior",
    "class_word": "generation_class_word",
    "stage1": "generation_stage1",
    "plain": "generation_plain",
    "regional": "generation_regional",
}
_DESCRIBED_BY = ("manifest.jsonl", "concepts.yaml")  # small files that say what an artifact holds


@dataclass(frozen=True)
class ImageRow:
    """One generated image, judged.

    Attributes:
        file: PNG.
        values: by IMAGE_COLUMNS; None: not measured.
    """

    file: Path
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """An artifact that a model was made from.

    Attributes:
        name: the run's name of it.
        kind: "dataset" or "augmentation".
        fingerprint: of its content.
        folder: where it lies.
        files: small ones that describe it.
    """

    name: str
    kind: str
    fingerprint: str
    folder: Path
    files: Sequence[Path]


@dataclass(frozen=True)
class Results:
    """What a run found and made.

    Attributes:
        metrics: as in summary.json; None: could not be measured.
        images: the evaluation's images.
        matrices: `confusion_matrix.json`.
        curation_page: HTML file, or None.
        export: folder of what the user takes away, or None.
        sources: what the export was made from.
        facts: what stands beside the export: experiment, method, seed, fingerprints.
        objective: the value of the metric that a sweep optimises, if the config names one.
    """

    metrics: Mapping[str, float | None]
    images: Sequence[ImageRow] = ()
    matrices: Mapping[str, Any] = field(default_factory=dict)
    curation_page: Path | None = None
    export: Path | None = None
    sources: Sequence[Source] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    objective: float | None = None

    @property
    def measured(self) -> dict[str, float]:
        """The metrics that have a value."""
        return {name: float(value) for name, value in self.metrics.items() if value is not None}


def gather(
    summary: Mapping[str, Any],
    *,
    folder: Path,
    made: Mapping[str, Artifact],
    objective: str | None,
) -> Results:
    """Gather the results of a run.

    Args:
        summary: as in summary.json.
        folder: the run's.
        made: its artifacts by name.
        objective: the config's.
    """
    evaluation = made["evaluation"].path if "evaluation" in made else None
    matrices = evaluation / "confusion_matrix.json" if evaluation else None
    page, export = folder / "curation.html", summary.get("export")
    return Results(
        metrics=summary["metrics"],
        images=_images(made) if evaluation else (),
        matrices=json.loads(matrices.read_text()) if matrices and matrices.is_file() else {},
        curation_page=page if page.is_file() else None,
        export=Path(export) if export else None,
        sources=_sources(made),
        facts={
            **{key: summary[key] for key in ("experiment", "method", "model", "dataset", "seed")},
            "fingerprints": {name: artifact.fingerprint for name, artifact in made.items()},
        },
        objective=summary["metrics"].get(objective) if objective else None,
    )


def _images(made: Mapping[str, Artifact]) -> list[ImageRow]:
    """Return the evaluation's images that the store still has; several concepts come first."""
    found = []
    for line in read_jsonl(made["evaluation"].path / "per_image.jsonl"):
        artifact = made.get(_DRAWN_BY.get(line["group"], "generation"))
        if artifact is None or not (file := artifact.path / line["file"]).is_file():
            continue
        values: dict[str, Any] = {key: line[key] for key in ("group", "prompt", "seed")}
        if judged := line.get("judgement"):
            identity = list(judged["identity"].values())
            missing = [name for name in line["concepts"] if name not in judged["present"]]
            values |= {
                "identity": sum(identity) / len(identity) if identity else None,
                "leaks": int(sum(shown for shown, _ in judged["leaks"].values())),
                "missing": ", ".join(missing),
            }
        found.append(ImageRow(file, {name: values.get(name) for name in IMAGE_COLUMNS}))
    order = {"multi": 0, "single": 1}
    return sorted(found, key=lambda row: order.get(row.values["group"], 2))


def _sources(made: Mapping[str, Artifact]) -> list[Source]:
    return [
        Source(
            name,
            kind,
            made[name].fingerprint,
            made[name].path,
            [file for wanted in _DESCRIBED_BY if (file := made[name].path / wanted).is_file()],
        )
        for name, kind in SOURCES.items()
        if name in made
    ]
