"""A comparison as tables: what stands in each cell, whatever they are written as."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from clif_exp.compare.comparison import Comparison
from clif_exp.compare.grouping import Group, Grouping, concept_titles
from clif_exp.compare.measures import better
from clif_exp.compare.statistics import Difference, Mean

if TYPE_CHECKING:
    import pandas as pd

MISSING = "-"
_ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    Attributes:
        text: its main line.
        detail: what stands behind or below it, smaller: the interval, the number of runs.
        best: the best of its column.
    """

    text: str
    detail: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """One table; the first column holds words, the others numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 1  # columns of words in front


def head(measure: str) -> str:
    """Return what stands above a measure's column: its name, and which way is better."""
    return measure + _ARROWS[better(measure)]


def between(interval: tuple[float, float] | None, *, digits: int, sign: str = "") -> str:
    """Return an interval as text, "0.12 to 0.34"; MISSING for none. `sign="+"` writes +0.12."""
    if interval is None:
        return MISSING
    return " to ".join(f"{value:{sign}z.{digits}f}" for value in interval)


def means_table(comparison: Comparison) -> Table:
    """Return groups by measures."""
    heads = [head(measure) for measure in comparison.measures]
    best = {measure: comparison.best(measure) for measure in comparison.measures}
    digits = {measure: _digits(comparison, measure) for measure in comparison.measures}
    rows = []
    for group in comparison.grouping.groups:
        cells = [
            _mean_cell(
                comparison.means[group.label, measure],
                of=len(group.runs),
                digits=digits[measure],
                best=group.label in best[measure],
            )
            for measure in comparison.measures
        ]
        rows.append([Cell(group.label), _runs_cell(group, comparison.grouping), *cells])
    return Table("", ["", "runs", *heads], rows)


def measures_table(comparison: Comparison) -> Table:
    """Return measures by groups: what many measures fit in."""
    by_group = means_table(comparison)
    labels = [group.label for group in comparison.grouping.groups]
    rows = [
        [Cell(by_group.columns[place]), *(row[place] for row in by_group.rows)]
        for place in range(2, len(by_group.columns))
    ]
    return Table("", ["metric", *labels], rows)


def differences_table(comparison: Comparison) -> Table:
    """Return a row for each measure and group but the baseline.

    Of one group its name stands in the title, and there is nothing to correct for.
    """
    others = [g.label for g in comparison.grouping.groups if g.label != comparison.baseline]
    rows = []
    for measure in comparison.measures:
        digits = _digits(comparison, measure)
        for label in others:
            found = comparison.differences[label, measure]
            cells = _difference_cells(found, digits=digits)
            rows.append([Cell(head(measure)), Cell(label), *cells])
    heads = ["metric", "group", "pairs", "difference", "p", "Holm", "r", "detectable"]
    title = f"Difference from {comparison.baseline}"
    if len(others) != 1:
        return Table(title, heads, rows, words=2)
    kept = [i for i, head in enumerate(heads) if head not in ("group", "Holm")]
    return Table(
        f"{others[0]}: difference from {comparison.baseline}",
        [heads[i] for i in kept],
        [[row[i] for i in kept] for row in rows],
    )


def concepts_table(comparison: Comparison, measure: str) -> Table:
    """Return each concept by group: the mean over runs of a measure of images of several.

    Args:
        comparison: whose groups are shown.
        measure: "attendance" (Fig. 9) or "confusion".

    Raises:
        ValueError: no run knows it of its concepts.
    """
    found: dict[str, dict[str, list[float]]] = {}
    groups = comparison.grouping.groups
    title = concept_titles(groups)
    for group in groups:
        for run in group.runs.values():
            for name, measured in run.concepts.items():
                if measure in measured:
                    by_group = found.setdefault(title(run, name), {})
                    by_group.setdefault(group.label, []).append(measured[measure])
    if not found:
        raise ValueError(
            f"--per-concept: no run knows {measure} of its concepts; it is read from their"
            " evaluation artifacts (artifacts.root), or from files of --save"
        )
    labels = [group.label for group in groups]
    rows = [
        [
            Cell(name),
            *(Cell(f"{fmean(of[label]):.2f}" if label in of else MISSING) for label in labels),
        ]
        for name, of in found.items()
    ]
    return Table(f"{measure} in images of several concepts", ["concept", *labels], rows)


def tidy(comparison: Comparison) -> pd.DataFrame:
    """Return a row for each group and measure, with everything that is known of it as numbers."""
    import pandas as pd

    lines = []
    for group in comparison.grouping.groups:
        for measure in comparison.measures:
            mean = comparison.means[group.label, measure]
            low, high = mean.interval or (None, None)
            line = {
                "group": group.label,
                "metric": measure,
                "better": better(measure) or "",
                "runs": mean.runs,
                "units": mean.units,
                "unfinished": len(group.unfinished),
                "mean": mean.mean,
                "low": low,
                "high": high,
            }
            if comparison.baseline is not None:
                line |= _tidy_difference(comparison.differences.get((group.label, measure)))
            lines.append(line)
    return pd.DataFrame(lines)


def _tidy_difference(found: Difference | None) -> dict[str, float | int | None]:
    low, high = (found.interval if found else None) or (None, None)
    names = ("p", "holm", "effect", "detectable")
    return {
        "pairs": found.pairs if found else None,
        "difference": found.mean if found else None,
        "difference_low": low,
        "difference_high": high,
        **{name: getattr(found, name, None) for name in names},
    }


def _runs_cell(group: Group, grouping: Grouping) -> Cell:
    units = grouping.units(group)
    details = [f"{units} cast{'s' if units > 1 else ''}"] if units < len(group.runs) else []
    unfinished = Counter(run.status for run in group.unfinished)
    details += [f"{number} {status}" for status, number in unfinished.items()]
    return Cell(str(len(group.runs)), ", ".join(details))


def _mean_cell(mean: Mean, *, of: int, digits: int, best: bool) -> Cell:
    if mean.mean is None:
        return Cell(MISSING)
    details = []
    if mean.interval is not None:
        details.append(between(mean.interval, digits=digits))
    if mean.runs != of:
        details.append(f"{mean.runs} of {of} runs")
    return Cell(f"{mean.mean:z.{digits}f}", ", ".join(details), best)


def _difference_cells(found: Difference, *, digits: int) -> list[Cell]:
    if found.mean is None:
        return [Cell("0"), *[Cell(MISSING)] * 5]
    interval = "" if found.interval is None else between(found.interval, digits=digits, sign="+")
    return [
        Cell(str(found.pairs)),
        Cell(f"{found.mean:+z.{digits}f}", interval),
        Cell(as_p(found.p)),
        Cell(as_p(found.holm)),
        Cell(MISSING if found.effect is None else f"{found.effect:+z.2f}"),
        Cell(MISSING if found.detectable is None else f"{found.detectable:.{digits}f}"),
    ]


def as_p(value: float | None) -> str:
    """Return a p-value as text; MISSING for none."""
    if value is None:
        return MISSING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _digits(comparison: Comparison, measure: str) -> int:
    """Return the decimals of a column: three below ten, fewer where numbers are larger."""
    largest = max(
        (
            abs(mean.mean)
            for (_, name), mean in comparison.means.items()
            if name == measure and mean.mean is not None
        ),
        default=0.0,
    )
    return 3 if largest < 10 else max(0, 2 - int(math.log10(largest)))
