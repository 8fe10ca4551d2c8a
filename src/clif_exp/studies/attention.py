"""Where models look for the two concepts of a pair, before and after each stage (Fig. 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from clif_exp.artifacts.files import read_jsonl
from clif_exp.compare.grouping import Group, Unit, over_casts, several_casts
from clif_exp.compare.reading import published
from clif_exp.compare.statistics import mean_of
from clif_exp.compare.table import between
from clif_exp.generation.attention import MANIFEST
from clif_exp.reporting.attention import MODELS, attention_rows
from clif_exp.reporting.images import Tile, write_grid

_LABEL = 130  # width of the column of labels, px


def collect(groups: Sequence[Group]) -> dict[str, Any]:
    """Gather how much the maps of a pair's two concepts overlap, for each model.

    Returns:
        `overlap`: group -> model -> `values` of each run (the mean over its pairs, in [0, 1]),
        their `mean` and `interval`; `pairs`: prompts of a run.

    Raises:
        ValueError: no run has recorded maps.
    """
    overlap: dict[str, dict[str, Any]] = {}
    pairs, casts = 0, several_casts(groups)
    for group in groups:
        values: dict[str, dict[Unit, float]] = {}
        for unit, run in group.runs.items():
            for artifact in MODELS:
                folder = published(run, artifact)
                lines = read_jsonl(folder / MANIFEST) if folder else []
                known = [line["overlap"] for line in lines if line["overlap"] is not None]
                pairs = max(pairs, len(known))
                if known:
                    values.setdefault(artifact, {})[unit] = fmean(known)
        for artifact, of_runs in values.items():
            mean = mean_of(over_casts(of_runs, casts=casts), runs=len(of_runs))
            overlap.setdefault(group.label, {})[artifact] = {
                "values": {", ".join(unit): round(value, 4) for unit, value in of_runs.items()},
                "mean": mean.mean,
                "interval": mean.interval,
            }
    if not overlap:
        raise ValueError(
            "hydra.sweeper.keep.figures: no run has recorded attention maps of pairs; set"
            " evaluation.attention.pairs, and keep the store (artifacts.root)"
        )
    return {"overlap": overlap, "pairs": pairs}


def draw(groups: Sequence[Group], file: Path, *, rows: int) -> None:
    """Draw the maps of the first prompts of the first run that has some, as rows of images."""
    for run in (run for group in groups for run in group.runs.values()):
        folders = {name: published(run, name) for name in MODELS}
        known = {name: folder for name, folder in folders.items() if folder is not None}
        of_pairs = {
            prompt: found
            for prompt, found in attention_rows(known).items()
            if len(found[0][1]) > 2  # the image and a map for each of two concepts
        }
        if not of_pairs:
            continue
        shown: list[tuple[str, Sequence[Tile]]] = [
            (model, tiles) for found in list(of_pairs.values())[:rows] for model, tiles in found
        ]
        write_grid(file, shown, label=_LABEL)
        return


def caption(found: Mapping[str, Any]) -> str:
    """Say what the images show, and the overlaps as a Markdown table."""
    first = next(iter(found["overlap"]))
    lines = [
        "Each row is one model that draws one prompt from the same noise: its image, then where"
        " its cross-attention looks for the first and for the second concept, each map from its own"
        " weakest (dark) to strongest place. The base model has only the class words to go by, the"
        f" next one what stage 1 taught, the last one is customised ({first})."
        " The first prompts of the first cast and seed are shown.",
        "",
        "Overlap of the two concepts' maps (each scaled to a sum of 1, the smaller of both summed"
        " over all places; 0: apart, 1: the same places), mean over"
        f" {found['pairs']} pairs of each run, with the 95 % bootstrap interval over casts"
        " (over seeds where there is one cast):",
        "",
        "| group | model | runs | overlap | 95 % interval |",
        "| --- | --- | --- | --- | --- |",
    ]
    for label, models in found["overlap"].items():
        for artifact, of in models.items():
            interval = between(of["interval"], digits=3)
            cells = f"{len(of['values'])} | {of['mean']:.3f} | {interval}"
            lines.append(f"| {label} | {MODELS[artifact]} | {cells} |")
    return "\n".join(lines)
