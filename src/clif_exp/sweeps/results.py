"""What a sweep leaves: a table of its jobs, and the page that compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from rich.console import Console

from clif_exp.compare.measures import better
from clif_exp.compare.table import MISSING, Cell, Table, head
from clif_exp.evaluation.metrics import compared
from clif_exp.runs.checking import check
from clif_exp.runs.directory import SUMMARY, relative
from clif_exp.sweeps.jobs import Job, short
from clif_exp.sweeps.settings import KeepSettings

if TYPE_CHECKING:
    from clif_exp.compare.run import Run

PAGE = "comparison.html"


def show_results(
    jobs: Sequence[Job],
    *,
    folder: Path,
    objective: str | None,
    console: Console,
    earlier: Mapping[Job, Run] | None = None,
) -> list[str]:
    """Print a row for each job (what differs, its status, metrics), and write the page.

    Args:
        jobs: all of the sweep's.
        folder: the sweep's; the page compares all jobs in it, of earlier sweeps too.
        objective: the metric shown first; the others are those that a comparison shows.
        console: where to print.
        earlier: runs of jobs that were not started, as their results have been kept.

    Returns:
        The jobs' status; "missing" where none was written.
    """
    from clif_exp.compare.formats import print_tables

    earlier = earlier or {}
    summaries = [
        {"status": earlier[job].status, "metrics": earlier[job].metrics}
        if job in earlier
        else job.summary()
        for job in jobs
    ]
    statuses = [str(summary.get("status", "missing")) for summary in summaries]
    print_tables([_table(jobs, summaries, statuses, objective=objective)], [])
    console.print(f"jobs: {relative(folder)}", soft_wrap=True, highlight=False)
    if any(summaries):
        others = [run for job, run in earlier.items() if not (job.folder / SUMMARY).is_file()]
        write_comparison(folder, console=console, others=others)
    return statuses


def write_comparison(
    folder: Path,
    *,
    console: Console,
    sections: Sequence[tuple[str, str]] = (),
    others: Sequence[Run] = (),
) -> None:
    """Write the page that compares a sweep's jobs, and print its path.

    Args:
        folder: the sweep's.
        console: where to print.
        sections: title and safe HTML of what the page shows below.
        others: runs that are compared with those in the folder, which may be empty then.
    """
    from clif_exp.compare.page import write_page
    from clif_exp.compare.reading import read

    page = folder / PAGE
    runs = read([folder]) if not others or any(folder.glob(f"*/{SUMMARY}")) else []
    write_page([*runs, *others], page, title=folder.name, sections=sections)
    console.print(f"comparison: {relative(page)}", soft_wrap=True, highlight=False)


def check_keep(stated: Mapping[str, Any] | None) -> KeepSettings | None:
    """Return what `hydra.sweeper.keep` states, before any job starts.

    Raises:
        ValueError: names the key, what was found and the remedy.
    """
    if stated is None:
        return None
    plain: Any = OmegaConf.to_container(OmegaConf.create(dict(stated)), resolve=True)
    return check(KeepSettings, plain, where=("hydra", "sweeper", "keep"))


def keep_study(
    folders: Sequence[Path],
    kept: KeepSettings,
    *,
    console: Console,
    earlier: Mapping[Path, Run] | None = None,
    stopped: bool = False,
) -> None:
    """Write what a study commits.

    Args:
        folders: of its jobs, with a summary.json or without.
        kept: what, and where.
        console: where to print.
        earlier: folder -> the run that was kept before, and so was not computed again.
        stopped: the sweep was: only jobs that have finished are kept, and no figures are drawn.

    Raises:
        ValueError: a group, setting or metric that no job has.
    """
    from clif_exp.compare.reading import read
    from clif_exp.compare.writing import keep
    from clif_exp.studies.figures import keep_figures

    earlier = earlier or {}
    written = [it for it in folders if it not in earlier and (it / SUMMARY).is_file()]
    here = {run.folder: run for run in (read(written) if written else [])} | dict(earlier)
    runs = [here[it] for it in folders if it in here]
    if stopped:
        runs = [run for run in runs if run.status == "finished"]
    if not runs:
        return
    keep(
        runs,
        Path(kept.folder),
        by=kept.group_by,
        metrics=kept.metrics,
        baseline=None if stopped else kept.baseline,  # which may not be among them yet
    )
    if not stopped:
        keep_figures(runs, Path(kept.folder), kept.figures, by=kept.group_by)
    console.print(f"study: {kept.folder}", soft_wrap=True, highlight=False)


def _table(
    jobs: Sequence[Job],
    summaries: Sequence[dict[str, Any]],
    statuses: Sequence[str],
    *,
    objective: str | None,
) -> Table:
    """Return the jobs by what differs and what was measured."""
    metrics = [summary.get("metrics", {}) for summary in summaries]
    wanted = dict.fromkeys([*([objective] if objective else []), *compared()])
    shown = [name for name in wanted if any(of.get(name) is not None for of in metrics)]
    best = {name: _best([of.get(name) for of in metrics], name) for name in shown}
    settings = [dict(short(it).split("=", 1) for it in job.varying) for job in jobs]
    keys = list(dict.fromkeys(key for one in settings for key in one))
    rows = []
    for one, status, of in zip(settings, statuses, metrics, strict=True):
        words = [*(one.get(key, "") for key in keys), status]
        numbers = [_number(of.get(name), best=best[name]) for name in shown]
        rows.append([*map(Cell, words), *numbers])
    return Table("", [*keys, "status", *map(head, shown)], rows, words=len(keys) + 1)


def _number(value: float | None, *, best: float | None) -> Cell:
    return Cell(MISSING) if value is None else Cell(f"{value:.3f}", best=value == best)


def _best(values: Sequence[float | None], metric: str) -> float | None:
    """Return the best value; None where all are alike, or none is better."""
    known = {value for value in values if value is not None}
    direction = better(metric)
    if direction is None or len(known) < 2:
        return None
    return max(known) if direction == "higher" else min(known)
