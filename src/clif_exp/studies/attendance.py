"""Attendance of each concept by group: who is missing from images of several (Fig. 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from clif_exp.compare.grouping import (
    Group,
    Unit,
    concept_titles,
    over_casts,
    several_casts,
    short_label,
)
from clif_exp.compare.statistics import FEW, mean_of
from clif_exp.compare.table import between
from clif_exp.reporting import plots

_MEASURE = "attendance"
_ROW = 0.22  # of a concept, inches
_SPREAD = 0.6  # of a row, over which the groups' points are spread


def collect(groups: Sequence[Group]) -> dict[str, Any]:
    """Gather each concept's attendance, of every run.

    Returns:
        `concepts`: group -> concept -> attendance in [0, 1] of each run; `means`: group -> mean
        over casts of the mean over concepts, `interval` and number of `runs`.

    Raises:
        ValueError: no run knows it of its concepts.
    """
    concepts: dict[str, dict[str, list[float]]] = {}
    means: dict[str, dict[str, Any]] = {}
    casts, title = several_casts(groups), concept_titles(groups)
    for group in groups:
        by_run: dict[Unit, dict[str, float]] = {}
        for unit, run in group.runs.items():
            measured = {
                title(run, name): found[_MEASURE]
                for name, found in run.concepts.items()
                if _MEASURE in found
            }
            if measured:
                by_run[unit] = measured
        if not by_run:
            continue
        of_group = concepts.setdefault(group.label, {})
        for measured in by_run.values():
            for name, share in measured.items():
                of_group.setdefault(name, []).append(share)
        of_runs = {unit: fmean(measured.values()) for unit, measured in by_run.items()}
        mean = mean_of(over_casts(of_runs, casts=casts), runs=len(of_runs))
        means[group.label] = {"mean": mean.mean, "interval": mean.interval, "runs": mean.runs}
    if not concepts:
        raise ValueError(
            "hydra.sweeper.keep.figures: no run knows attendance of its concepts; draw pairs"
            " (generation.prompts.pairs) and keep the store (artifacts.root)"
        )
    return {"concepts": concepts, "means": means}


def draw(found: Mapping[str, Any], file: Path) -> None:
    """Draw a line for each concept, with a point for each group: its mean, and all its runs.

    The groups' points lie below one another, so that none hides another's.
    """
    groups: Mapping[str, Mapping[str, Sequence[float]]] = found["concepts"]
    first = next(iter(groups.values()))
    anywhere = dict.fromkeys(name for of_concepts in groups.values() for name in of_concepts)
    names = sorted(anywhere, key=lambda name: fmean(first.get(name, [0.0])))
    figure, axes = plots.new_figure(5.4, 1.0 + _ROW * len(names))
    colours = (plots.ACCENT, plots.SECOND, plots.THIRD, plots.GREY)
    for place, (label, of_concepts) in enumerate(groups.items()):
        colour = colours[place % len(colours)]
        down = _SPREAD * ((place + 0.5) / len(groups) - 0.5)
        known = {row: of_concepts[name] for row, name in enumerate(names) if name in of_concepts}
        for row, values in known.items():
            if len(values) > 1:
                heights = [row - down] * len(values)
                axes.scatter(values, heights, s=8, alpha=0.35, color=colour, linewidths=0)
        heights = [row - down for row in known]
        means = [fmean(values) for values in known.values()]
        axes.scatter(means, heights, s=20, color=colour, label=short_label(label), zorder=3)
    axes.set(yticks=range(len(names)), yticklabels=names, xlim=(-0.02, 1.02))
    axes.set_xlabel("attendance in images of two")
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.5)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(groups))
    file.write_text(plots.svg(figure))


def caption(found: Mapping[str, Any]) -> str:
    """Say what the chart shows, and the means as a Markdown table."""
    single = all(of["runs"] == 1 for of in found["means"].values())
    first = short_label(next(iter(found["means"])))
    runs = (
        "One run of each group."
        if single
        else "Large points are means over runs, small ones single runs. Intervals are over casts"
        f" (over seeds where there is one cast), and too narrow from fewer than {FEW}."
    )
    lines = [
        "In what share of the images of a pair a concept is there at all; partly hidden is not"
        f" missing. Concepts are sorted by `{first}`. {runs}",
        "",
        "| group | runs | mean over concepts | 95 % interval |",
        "| --- | --- | --- | --- |",
    ]
    for label, of in found["means"].items():
        interval = between(of["interval"], digits=3)
        lines.append(f"| {label} | {of['runs']} | {of['mean']:.3f} | {interval} |")
    return "\n".join(lines)
