"""What runs are compared by: metrics of summary.json, and what a run cost."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from clif_exp.compare.run import Run
from clif_exp.evaluation.metrics import IMAGE_COUNT, METRICS, compared

_SUMS = ("curation",)  # stages of summary.json that repeat others'
_COSTS = ("minutes", "memory_mb")
_STAGE = "seconds/"


def value(run: Run, measure: str) -> float | None:
    """Return a run's value; None if it has none.

    Args:
        run: the run.
        measure: a metric as in summary.json; `minutes` of all stages, what was reused included;
            `memory_mb`, the largest of all stages; `seconds/STAGE`.
    """
    if measure in run.metrics:
        return run.metrics[measure]
    if measure == "minutes":
        parts = [value for stage, value in run.seconds.items() if stage not in _SUMS]
        return sum(parts) / 60 if parts else None
    if measure == "memory_mb":
        return max(run.peak_memory_mb.values(), default=None)
    return run.seconds.get(measure.removeprefix(_STAGE)) if measure.startswith(_STAGE) else None


def hours(runs: Sequence[Run]) -> tuple[float, float]:
    """Return the hours of stages that the runs computed, and that they would have, each alone."""
    stages = [
        (seconds, stage in run.reused)
        for run in runs
        for stage, seconds in run.seconds.items()
        if stage not in _SUMS
    ]
    alone = sum(seconds for seconds, _ in stages)
    return sum(seconds for seconds, reused in stages if not reused) / 3600, alone / 3600


def better(measure: str) -> Literal["higher", "lower"] | None:
    """Return the better direction; None where there is none, as for a number of images."""
    if measure in _COSTS or measure.startswith(_STAGE):
        return "lower"
    name = measure.rpartition("/")[2]
    return next((metric.better for metric in METRICS if metric.name == name), None)


def check(patterns: Sequence[str], *, option: str) -> None:
    """Refuse names that no run can have, before there are runs.

    Args:
        patterns: as of `choose`; with `*` in front of the last `/`, what is behind it counts.
        option: what an error calls them.

    Raises:
        ValueError: the name of none of METRICS and of no cost; says what comes near.
    """
    known = [*(metric.name for metric in METRICS), IMAGE_COUNT]
    for pattern in patterns:
        name = pattern.rpartition("/")[2]
        if pattern.startswith(_STAGE) or any(fnmatchcase(it, pattern) for it in _COSTS):
            continue
        if not any(fnmatchcase(it, name) for it in known):
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            remedy = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"{option}: found {pattern!r}, which is no metric; {remedy}")


def choose(runs: Sequence[Run], patterns: Sequence[str] = ()) -> list[str]:
    """Return the measures to compare by.

    Args:
        runs: at least one of them has what is returned.
        patterns: names, also with `*`; none: those of METRICS that are `compared`, or whatever the
            runs have if they have none of these.

    Raises:
        ValueError: no run has what a pattern names; says what comes near.
    """
    known = list(dict.fromkeys(name for run in runs for name in run.metrics))
    measured = {name for run in runs for name in known if run.metrics.get(name) is not None}
    costs = [*_COSTS, *dict.fromkeys(f"{_STAGE}{stage}" for run in runs for stage in run.seconds)]
    if not patterns:
        usual = [name for name in compared() if name in measured]
        return usual or [name for name in known if name in measured]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        # A star stands for metrics that were measured; a name may be one that no run could.
        found = [
            name
            for name in (*known, *costs)
            if name == pattern or (name in (*measured, *costs) and fnmatchcase(name, pattern))
        ]
        if not found:
            near = difflib.get_close_matches(pattern, [*known, *costs], n=3, cutoff=0.5)
            remedy = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"--metric: no run has {pattern!r}; {remedy}")
        chosen |= dict.fromkeys(found)
    return list(chosen)
