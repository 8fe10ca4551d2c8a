"""Attendance of each concept by group: who is missing from images of several (Fig. 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from clif_exp.compare.grouping import Group, Unit, concept_titles, over_casts, several_casts
from clif_exp.compare.statistics import FEW, mean_of
from clif_exp.compare.table import between
from clif_exp.reporting import plots

_MEASURE = "attendance"
_ROW = 0.22  # of a concept, inches


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
    """Draw a line for each concept, with a point for each group: its mean, and all its runs."""
    groups: Mapping[str, Mapping[str, Sequence[float]]] = found["concepts"]
    first = next(iter(groups.values()))
    known = dict.fromkeys(name for of_concepts in groups.values() for name in of_concepts)
    names = sorted(known, key=lambda name: fmean(first.get(name, [0.0])))
    figure, axes = plots.new_figure(5.4, 1.0 + _ROW * len(names))
    colours = (plots.ACCENT, plots.SECOND, plots.THIRD, plots.GREY)
    for place, (label, of_concepts) in enumerate(groups.items()):
        colour = colours[place % len(colours)]
        for row, name in enumerate(names):
            values = of_concepts.get(name, ())
            axes.scatter(values, [row] * len(values), s=8, alpha=0.35, color=colour, linewidths=0)
        rows = [row for row, name in enumerate(names) if of_concepts.get(name)]
        means = [fmean(of_concepts[names[row]]) for row in rows]
        axes.scatter(means, rows, s=28, color=colour, label=label, zorder=3)
    axes.set(yticks=range(len(names)), yticklabels=names, xlim=(-0.02, 1.02))
    axes.set_xlabel("attendance in images of two")
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.5)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(groups))
    file.write_text(plots.svg(figure))


def caption(found: Mapping[str, Any]) -> str:
    """Say what the chart shows, and the means as a Markdown table."""
    lines = [
        "In what share of the images of a pair a concept is there at all; partly hidden is not"
        " missing. Large points are means over runs, small ones single runs; concepts are sorted by"
        " the first group. Intervals are over casts (over seeds where there is one cast), and too"
        f" narrow from fewer than {FEW}.",
        "",
        "| group | runs | mean over concepts | 95 % interval |",
        "| --- | --- | --- | --- |",
    ]
    for label, of in found["means"].items():
        interval = between(of["interval"], digits=3)
        lines.append(f"| {label} | {of['runs']} | {of['mean']:.3f} | {interval} |")
    return "\n".join(lines)
