"""A comparison as text, and as the files that a study commits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clif_exp.artifacts.files import write_text
from clif_exp.compare import formats, measures
from clif_exp.compare.comparison import Comparison, compare, notes
from clif_exp.compare.saved import read_saved, write_saved
from clif_exp.compare.table import (
    Table,
    concepts_table,
    differences_table,
    means_table,
    measures_table,
    tidy,
)

if TYPE_CHECKING:
    from clif_exp.compare.run import Run

Kind = Literal["csv", "latex", "markdown"]
ENDINGS: dict[str, Kind] = {".csv": "csv", ".tex": "latex", ".md": "markdown"}
RUNS, EVERYTHING = "runs.json", "all_metrics.md"


def tables_of(
    found: Comparison, *, per_concept: str | None = None
) -> tuple[list[Table], list[str]]:
    """Return a comparison's tables, and the notes below them.

    Args:
        found: the comparison.
        per_concept: "attendance" or "confusion": concepts by groups instead.
    """
    if per_concept is not None:
        return [concepts_table(found, per_concept)], ["Means over runs."]
    differences = [differences_table(found)] if found.baseline is not None else []
    return [means_table(found), *differences], notes(found)


def text_of(found: Comparison, kind: Kind, *, per_concept: str | None = None) -> str:
    """Return a comparison as a file of a kind holds it."""
    tables, said = tables_of(found, per_concept=per_concept)
    if kind == "csv":
        # Saved runs are rounded: the same table follows from them and from their folders.
        return (
            formats.csv(tables[0])
            if per_concept
            else tidy(found).to_csv(index=False, float_format="%.9g")
        )
    return {"latex": formats.latex, "markdown": formats.markdown}[kind](tables, said)


def keep(
    runs: Sequence[Run],
    folder: Path,
    *,
    by: Sequence[str],
    metrics: Sequence[str],
    baseline: str | None,
) -> None:
    """Write what a study commits: runs.json, table.csv, .md and .tex, and all_metrics.md.

    The last one has every metric and what the runs cost, in a row each.

    Args:
        runs: at least one that has finished.
        folder: the study's; made if missing.
        by: settings to group by; none: all that differ but cast and seed.
        metrics: what to compare by; none: what a comparison shows.
        baseline: the group that the others are compared with.

    Raises:
        ValueError: an unknown setting, metric or group.
        OSError: a file cannot be written.
    """
    write_saved(folder / RUNS, runs)  # first: a wrong name of a metric must cost no run
    runs = read_saved(folder / RUNS)  # as rounded there, so that it gives the same tables again
    found = compare(runs, by=by, metrics=metrics, baseline=baseline)
    for ending, kind in ENDINGS.items():
        write_text(folder / f"table{ending}", text_of(found, kind))
    everything = compare(runs, by=by, metrics=["*"])
    said = [*notes(everything), _saved(runs)]
    write_text(folder / EVERYTHING, formats.markdown([measures_table(everything)], said))


def _saved(runs: Sequence[Run]) -> str:
    """Say what sharing stages has saved."""
    computed, alone = measures.hours(runs)
    share = 1 - computed / alone if alone else 0.0
    return (
        f"Stages took these {len(runs)} runs {_duration(computed)}. Each alone, with nothing to"
        f" share, they would have taken {_duration(alone)}: {share:.0%} saved (a stage's seconds"
        " are those of the run that computed it, with whatever else the machine did)."
    )


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
