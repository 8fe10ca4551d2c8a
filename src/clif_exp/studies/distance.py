"""Are near concepts confused more? Pairs of many runs against their distance (Fig. 2)."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from clif_exp.compare.grouping import Group, cast_of, several_casts, short_label
from clif_exp.compare.reading import published
from clif_exp.compare.run import Run
from clif_exp.compare.statistics import interval_over_units
from clif_exp.compare.table import MISSING, between
from clif_exp.evaluation.correlation import FILE
from clif_exp.evaluation.distance import AFTER_TRAINING
from clif_exp.evaluation.metrics import IMAGE_COUNT
from clif_exp.reporting import plots
from clif_exp.reporting.charts import DISTANCES

SHOWN = "contextual"
"""The distance on the chart's axis: of what the U-Net reads."""

DISTANCE = "distance of contextual tokens"

GENERAL = "general concepts"
CONFUSED = 0.5
"""Share of a pair's images that are confused from which the pair counts as confused."""

_BINS = 5
_WIDTH, _HEIGHT = 2.9, 2.9  # of a panel, inches


def collect(groups: Sequence[Group]) -> dict[str, Any]:
    """Gather pairs with their distance before stage 2 and their confusion after it.

    Args:
        groups: of runs; general pairs are taken from the first run that has some.

    Returns:
        `points`: panel -> list of {"unit", "pair", a distance of each of DISTANCES, "confusion",
        "leaked", "pictures"}, means over the seeds of a pair and the sum of its pictures;
        `statistics`: panel -> kind -> `rho` and `auc`, each with its `interval` or None, and the
        panel's `pairs` and `confused`.

    Raises:
        ValueError: no run has judged pairs with distances.
    """
    points: dict[str, list[dict[str, Any]]] = {}
    runs = [run for group in groups for run in group.runs.values()]
    if general := next(filter(None, (published(run, "general_pairs") for run in runs)), None):
        found = json.loads((general / FILE).read_text())["pairs"]
        points[GENERAL] = [{"unit": pair, "pair": pair, **of} for pair, of in found.items()]
    for group in groups:
        if found_of_group := _pairs_of(group, casts=several_casts(groups)):
            points[group.label] = found_of_group
    if not points:
        raise ValueError(
            "hydra.sweeper.keep.figures: no run has pairs with distances; draw pairs"
            " (generation.prompts.pairs) and keep the store (artifacts.root)"
        )
    return {
        "points": points,
        "statistics": {panel: statistics_of(of_panel) for panel, of_panel in points.items()},
    }


def _pairs_of(group: Group, *, casts: bool) -> list[dict[str, Any]]:
    """Return a group's pairs; a unit is a cast, or a pair where all runs are of one cast."""
    by_pair: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for unit, run in group.runs.items():
        for point in _customised(run):
            by_pair.setdefault((cast_of(unit), point["pair"]), []).append(point)
    return [
        {
            "unit": cast if casts else pair,
            "pair": pair,
            **{name: fmean(of[name] for of in seeds) for name in seeds[0] if name != "pair"},
            IMAGE_COUNT: sum(of[IMAGE_COUNT] for of in seeds),
        }
        for (cast, pair), seeds in by_pair.items()
    ]


def _customised(run: Run) -> list[dict[str, Any]]:
    """Return a run's pairs: confusion of its images, distances before stage 2."""
    folder = published(run, "evaluation")
    files = (
        [folder / name for name in ("confusion_matrix.json", "distances.json")] if folder else []
    )
    if not files or not all(file.is_file() for file in files):
        return []
    judged, measured = (json.loads(file.read_text()) for file in files)
    before = [of for label, of in measured["stages"].items() if label != AFTER_TRAINING][-1]
    places = {name: place for place, name in enumerate(measured["names"])}
    found = []
    for pair, of in judged.get("multi", {}).get("pairs", {}).items():
        a, b = (places[name] for name in pair.split("|"))
        distances = {kind: of_kind["matrix"][a][b] for kind, of_kind in before.items()}
        found.append({"pair": pair, **distances, **of})
    return found


def statistics_of(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a panel's `statistics` (see `collect`)."""
    by_unit: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        by_unit.setdefault(point["unit"], []).append(point)
    found: dict[str, Any] = {
        "pairs": len(points),
        "units": len(by_unit),
        "confused": sum(point["confusion"] >= CONFUSED for point in points),
    }
    for kind in DISTANCES:
        if kind in points[0]:
            found[kind] = {
                name: _with_interval(list(by_unit.values()), measure, kind)
                for name, measure in {"rho": rank_correlation, "auc": area_under_curve}.items()
            }
    return found


def _with_interval(
    units: Sequence[Sequence[Mapping[str, Any]]],
    measure: Callable[[Sequence[float], Sequence[float]], float],
    kind: str,
) -> dict[str, Any]:
    def of(some: Sequence[Sequence[Mapping[str, Any]]]) -> float:
        flat = [point for points in some for point in points]
        return measure([p[kind] for p in flat], [p["confusion"] for p in flat])

    value = of(units)
    known = math.isfinite(value)
    return {
        "value": round(value, 4) if known else None,
        "interval": interval_over_units(units, of) if known else None,
    }


def rank_correlation(distances: Sequence[float], confusion: Sequence[float]) -> float:
    """Return Spearman's rank correlation; NaN where one of both has equal values only."""
    from scipy.stats import spearmanr

    if len(set(distances)) < 2 or len(set(confusion)) < 2:
        return math.nan
    return float(spearmanr(distances, confusion).statistic)


def area_under_curve(distances: Sequence[float], confusion: Sequence[float]) -> float:
    """Return how well nearness tells confused pairs (`CONFUSED`) from others.

    The area under the ROC curve, which is the probability that a confused pair is nearer than one
    that is not (Mann and Whitney, 1947); 0.5 is chance, NaN where all pairs are of one sort.
    """
    from scipy.stats import mannwhitneyu

    near = [-distance for distance in distances]
    confused = [n for n, share in zip(near, confusion) if share >= CONFUSED]
    others = [n for n, share in zip(near, confusion) if share < CONFUSED]
    if not confused or not others:
        return math.nan
    return float(mannwhitneyu(confused, others).statistic) / (len(confused) * len(others))


def draw(found: Mapping[str, Any], file: Path) -> None:
    """Draw a panel for each group of pairs: one point a pair, and the means of fifths of them."""
    panels = found["points"]
    figure, axes = plots.new_figure(_WIDTH * len(panels) + 0.4, _HEIGHT, panels=len(panels))
    axes = axes if len(panels) > 1 else [axes]
    farthest = max(point[SHOWN] for points in panels.values() for point in points) or 1.0
    for axis, (panel, points) in zip(axes, panels.items(), strict=True):
        pairs = sorted((point[SHOWN], point["confusion"]) for point in points)
        axis.scatter(*zip(*pairs, strict=True), s=14, alpha=0.35, color=plots.ACCENT, linewidths=0)
        cuts = [place * len(pairs) // _BINS for place in range(_BINS + 1)]
        bins = [pairs[start:end] for start, end in itertools.pairwise(cuts) if start < end]
        means = [[sum(column) / len(some) for column in zip(*some, strict=True)] for some in bins]
        axis.plot(*zip(*means, strict=True), color=plots.SECOND, marker="o", markersize=4)
        axis.set(
            title=short_label(panel), xlabel=DISTANCE, xlim=(-0.04 * farthest, 1.04 * farthest)
        )
        axis.set(xlim=(-0.04 * farthest, 1.04 * farthest), ylim=(-0.05, 1.05))
    axes[0].set_ylabel("images confused")
    file.write_text(plots.svg(figure))


def caption(found: Mapping[str, Any]) -> str:
    """Say what the chart shows, and its numbers as a Markdown table."""
    lines = [
        "Each point is a pair of concepts: how far apart they are for the text encoder before the"
        " U-Net is trained (cosine distance of their contextual tokens, what the U-Net reads: after"
        " stage 1 where the method has one, else of what training starts from, which is 0 for"
        " concepts of one class word), and the share of its images that are confused (a concept"
        " missing, there twice, not itself, or with an attribute of the other). Orange: means of"
        " fifths of the pairs. *General concepts* are pairs of names that the base model has always"
        " known, drawn by it alone; the others were customised, each with its cast.",
        "",
        "Below: Spearman's rank correlation of distance and confusion (below 0, near concepts are"
        " confused more), and how well nearness tells which pairs will be confused"
        f" (area under the curve; confused: at least {CONFUSED:.0%} of the images), with 95 %"
        " bootstrap intervals over casts (over pairs for general concepts, and where there is one"
        " cast).",
        "",
        "| pairs | of | confused | distance of | rank correlation | area under the curve |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for panel, numbers in found["statistics"].items():
        for kind, name in DISTANCES.items():
            if kind in numbers:
                cells = [_cell(numbers[kind][measure]) for measure in ("rho", "auc")]
                count = f"{numbers['pairs']} | {numbers['confused']}"
                lines.append(f"| {panel} | {count} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(of: Mapping[str, Any]) -> str:
    if of["value"] is None:
        return MISSING
    known = f" ({between(of['interval'], digits=2)})" if of["interval"] else ""
    return f"{of['value']:.2f}{known}"
