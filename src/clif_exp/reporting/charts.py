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
        uri = plots.plot_matrix(
            multi["nearest"],
            row_names=multi["names"],
            column_names=[*multi["names"], "missing"],
            title="Confusion matrix, several concepts",
            x_label="looks most like",
            y_label="asked for",
        )
        caption = (
            "Which concept each figure of a pair agrees with most. Without confusion it is a"
            " diagonal; ties are split."
        )
        found.append({"uri": uri, "caption": caption})
    there: dict[str, dict[str, float]] = {}
    for kind, label in (("single", "alone"), ("multi", "in pairs")):
        for name, value in (matrices.get(kind) or {}).get("attendance", {}).items():
            there.setdefault(name, {})[label] = value
    if there:
        uri = plots.plot_bars(
            there, title="Attendance per concept", x_label="share of images that show it"
        )
        caption = "How often each concept is in the image when its name is in the prompt."
        found.append({"uri": uri, "caption": caption})
    return found


def distance_plots(
    distances: Mapping[str, Any] | None, matrices: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Embedding distances before and after each stage, and against the leakage of each pair.

    Args:
        distances: `distances.json`, or None.
        matrices: `confusion_matrix.json`.

    Returns:
        `uri` and `caption` of each chart; none for fewer than two concepts.
    """
    if not distances or len(distances["names"]) < 2:
        return []
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
    found = [{"uri": uri, "caption": caption}]
    pairs = (matrices.get("multi") or {}).get("pairs") or {}
    if pairs:
        found.append(_leakage_by_distance(distances, pairs))
    return found


def _leakage_by_distance(
    distances: Mapping[str, Any], pairs: Mapping[str, Mapping[str, float]]
) -> dict[str, str]:
    last = list(distances["stages"].values())[-1]["contextual"]["matrix"]
    index = {name: place for place, name in enumerate(distances["names"])}
    uri = plots.plot_points(
        [last[index[a]][index[b]] for a, b in (pair.split("|") for pair in pairs)],
        [pair["leaked"] for pair in pairs.values()],
        [pair.replace("|", " + ") for pair in pairs],
        title="Distance against leakage, per pair",
        x_label="cosine distance of contextual tokens after training",
        y_label="share of differing attributes leaked",
    )
    caption = "Each point is a pair of concepts (the question of the paper's Fig. 2)."
    return {"uri": uri, "caption": caption}


def loss_plots(artifacts: Mapping[str, Path]) -> list[dict[str, str]]:
    """The loss curves of the training stages that were run."""
    found = []
    for name, (title, caption) in LOSSES.items():
        file = artifacts[name] / "metrics.csv" if name in artifacts else None
        if file is not None and file.exists() and (curves := plots.read_curves(file)):
            found.append({"uri": plots.plot_curves(curves, title=title), "caption": caption})
    return found
