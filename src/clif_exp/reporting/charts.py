"""The charts of the page, gathered from what evaluation and the training stages published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clif_exp.reporting import plots

DISTANCES = {
    "rows": "concept embeddings",
    "contextual": "contextual tokens",
    "keys_values": "U-Net keys and values",
}
"""Kinds of `distances.json`, and their names in the chart."""

CONFUSIONS = {"confusion": "images confused", "leaked": "differing attributes leaked"}
"""Measures of `distance_confusion.json`, and their names in the chart."""

_MOST_APART = 4  # curves of concepts that were customised apart
LOSSES = {
    "contrastive": (
        "Stage 1: contrastive loss",
        "If the loss with frozen embeddings falls too, context alone explains the pairs.",
    ),
    "reconstruction": (
        "Stage 1: reconstruction loss",
        "The concept embeddings of all encoders, by denoising the reference images.",
    ),
    "diffusion": (
        "Stage 2: denoising loss",
        "Noisy by nature: the noise level changes with every step. The validation loss is measured"
        " at fixed images, noise and timesteps.",
    ),
}
"""Artifact with a `metrics.csv` -> title and caption of its curves."""


def confusion_plots(matrices: Mapping[str, Any]) -> list[dict[str, str]]:
    """The confusion matrix of images with several concepts, and attendance per concept.

    Args:
        matrices: `confusion_matrix.json`.

    Returns:
        `uri` and `caption` of each chart.
    """
    found: list[dict[str, str]] = []
    if multi := matrices.get("multi"):
        uri = plots.plot_matrix(multi["nearest"], **_matrix_labels(multi, "several concepts"))
        caption = (
            "Which concept each figure of a pair agrees with most. Without confusion it is a"
            " diagonal; ties are split."
        )
        found.append({"uri": uri, "caption": caption})
    there: dict[str, dict[str, float]] = {}
    for kind, label in (("single", "alone"), ("multi", "in pairs")):
        for name, value in (matrices.get(kind) or {}).get("attendance", {}).items():
            there.setdefault(name, {})[f"there, {label}"] = value
    for name, value in (matrices.get("multi") or {}).get("confusion", {}).items():
        there[name]["intact, in pairs"] = 1 - value
    if there:
        uri = plots.plot_bars(
            there, title="Attendance per concept", x_label="share of images that name it"
        )
        caption = (
            "How often each concept is in the image when its name is in the prompt (the paper's"
            " Fig. 9), and how often it is there once, recognisable and without a leaked attribute."
        )
        found.append({"uri": uri, "caption": caption})
    return found


def _matrix_labels(matrix: Mapping[str, Any], images: str) -> dict[str, Any]:
    return {
        "row_names": matrix["names"],
        "column_names": [*matrix["names"], "missing"],
        "title": f"Confusion matrix, {images}",
        "x_label": "looks most like",
        "y_label": "asked for",
    }


def confusion_figures(matrices: Mapping[str, Any]) -> dict[str, Any]:
    """The confusion matrices as matplotlib's figures, for trackers: "single" and "multi".

    Args:
        matrices: `confusion_matrix.json`.
    """
    return {
        kind: plots.matrix_figure(
            matrices[kind]["nearest"], **_matrix_labels(matrices[kind], shown)
        )
        for kind, shown in (("single", "one concept"), ("multi", "several concepts"))
        if kind in matrices
    }


def distance_plots(
    distances: Mapping[str, Any] | None,
    concepts: Mapping[str, Any] | None,
    general: Mapping[str, Any] | None,
) -> list[dict[str, str]]:
    """Embedding distances before and after each stage, and confusion of each pair against them.

    Args:
        distances: `distances.json`, or None.
        concepts: `distance_confusion.json` of the run's concepts, or None.
        general: the same of what the base model knows, or None.

    Returns:
        `uri` and `caption` of each chart; none for fewer than two concepts.
    """
    found = []
    if distances and len(distances["names"]) > 1:
        stages = distances["stages"]
        bars = {
            title: {label: stage[kind]["mean"] for label, stage in stages.items() if kind in stage}
            for kind, title in DISTANCES.items()
            if any(kind in stage for stage in stages.values())
        }
        uri = plots.plot_bars(
            bars, title="Distance between concepts", x_label="mean cosine distance over pairs"
        )
        caption = "Before training, concepts with the same class word coincide."
        found.append({"uri": uri, "caption": caption})
    if concepts:
        title = "Distance against confusion, customised concepts"
        found.append(_confusion_by_distance(concepts, title=title))
    if general:
        title = "Distance against confusion, general concepts"
        found.append(_confusion_by_distance(general, title=title))
    return found


def _confusion_by_distance(found: Mapping[str, Any], *, title: str) -> dict[str, str]:
    points: Mapping[str, Mapping[str, float]] = found["pairs"]
    uri = plots.plot_points(
        [point["contextual"] for point in points.values()],
        {
            label: [point[measure] for point in points.values()]
            for measure, label in CONFUSIONS.items()
        },
        [pair.replace("|", " + ") for pair in points],
        title=title,
        x_label="cosine distance of contextual tokens",
        y_label="share",
    )
    caption = f"Each point is one of {len(points)} pairs (the question of the paper's Fig. 2)."
    for measure, label in CONFUSIONS.items():
        ranks = [
            f"{DISTANCES[kind]} {rank['rho']:+.2f} (p {rank['p']:.3f})"
            for kind, measured in found["spearman"].items()
            if (rank := measured[measure]) is not None
        ]
        if ranks:
            caption += f" Spearman's rank correlation of {label} with the distance of"
            caption += f" {', '.join(ranks)}."
    return {"uri": uri, "caption": caption}


def loss_plots(artifacts: Mapping[str, Path]) -> list[dict[str, str]]:
    """The loss curves of the training stages that were run; of concepts apart, the first ones."""
    found = []
    for name, (title, caption) in LOSSES.items():
        apart = [key for key in artifacts if key.startswith(f"{name}/")][:_MOST_APART]
        for key in [name, *apart]:
            file = artifacts[key] / "metrics.csv" if key in artifacts else None
            if file is not None and file.exists() and (curves := plots.read_curves(file)):
                concept = key.removeprefix(name).lstrip("/")
                shown = f"{title}, {concept} alone" if concept else title
                found.append({"uri": plots.plot_curves(curves, title=shown), "caption": caption})
    return found
