"""A sweep's table, printed at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clif_exp.runs.directory import relative
from clif_exp.sweeps.jobs import Job, short
from clif_exp.sweeps.watching import STYLES

# Shown of every job, where it was measured; after the metric named by `objective`.
_METRICS = ("single/identity", "multi/identity", "multi/leakage", "multi/confusion")


def show_results(
    jobs: Sequence[Job], *, folder: Path, objective: str | None, console: Console
) -> list[str]:
    """Print a row for each job: what differs, its status, chosen metrics.

    Args:
        jobs: all of the sweep's.
        folder: the sweep's.
        objective: the metric shown first.
        console: where to print.

    Returns:
        The jobs' status; "missing" where none was written.
    """
    summaries = [job.summary() for job in jobs]
    statuses = [str(summary.get("status", "missing")) for summary in summaries]
    wanted = dict.fromkeys([*([objective] if objective else []), *_METRICS])
    shown = [name for name in wanted if any(name in s.get("metrics", {}) for s in summaries)]
    keys = dict.fromkeys(short(it).partition("=")[0] for job in jobs for it in job.varying)
    table = Table(title=folder.name)
    for key in keys:
        table.add_column(key, overflow="fold")
    table.add_column("status")
    for name in shown:
        table.add_column(name, justify="right")
    for job, summary, status in zip(jobs, summaries, statuses, strict=True):
        settings = dict(short(override).split("=", 1) for override in job.varying)
        values = (summary.get("metrics", {}).get(name) for name in shown)
        table.add_row(
            *(settings.get(key, "") for key in keys),
            Text(status, STYLES.get(status, "")),
            *("" if value is None else f"{value:.3f}" for value in values),
        )
    console.print(table)
    console.print(f"jobs: {relative(folder)}", soft_wrap=True, highlight=False)
    return statuses
