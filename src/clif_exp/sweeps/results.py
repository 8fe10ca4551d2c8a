"""What a sweep leaves: a table of its jobs, and the page that compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from rich.console import Console

from clif_exp.compare.content import shorten_keys
from clif_exp.compare.measures import better
from clif_exp.compare.table import MISSING, Cell, Table, head
from clif_exp.evaluation.metrics import compared
from clif_exp.runs.checking import check
from clif_exp.runs.directory import SUMMARY, relative
from clif_exp.sweeps.jobs import Job, key_of
from clif_exp.sweeps.kept import Committed, check_baseline
from clif_exp.sweeps.settings import KeepSettings

if TYPE_CHECKING:
    from clif_exp.compare.run import Run

PAGE = "comparison.html"


def show_results(
    summaries: Mapping[Job, dict[str, Any]],
    *,
    folder: Path,
    objective: str | None,
    console: Console,
    kept: Mapping[Job, Run],
) -> list[str]:
    """Print a row for each job (what differs, its status, metrics), and write the page.

    Args:
        summaries: the sweep's jobs, and what their summary.json says: nothing if not started.
        folder: the sweep's; the page compares all jobs in it, of earlier sweeps too.
        objective: the metric shown first; the others are those that a comparison shows.
        console: where to print.
        kept: runs that stand for jobs that were not started.

    Returns:
        The jobs' status; "missing" where none was written.
    """
    from clif_exp.compare.formats import print_tables

    statuses = [str(summary.get("status", "missing")) for summary in summaries.values()]
    print_tables([_table(summaries, statuses, objective=objective)], [])
    console.print(f"jobs: {relative(folder)}", soft_wrap=True, highlight=False)
    if any(summaries.values()):
        placed = {job.folder: run for job, run in kept.items()}
        write_comparison(folder, console=console, kept=placed)
    return statuses


def write_comparison(
    folder: Path,
    *,
    console: Console,
    sections: Sequence[tuple[str, str]] = (),
    kept: Mapping[Path, Run] | None = None,
) -> None:
    """Write the page that compares a sweep's jobs, and print its path.

    Args:
        folder: the sweep's.
        console: where to print.
        sections: title and safe HTML of what the page shows below.
        kept: folder -> the run that is compared in place of what lies there, if anything does.
    """
    from clif_exp.compare.page import write_page
    from clif_exp.compare.reading import read

    page = folder / PAGE
    there = read([folder]) if not kept or any(folder.glob(f"*/{SUMMARY}")) else []
    own = [run for run in there if run.folder not in (kept or {})]
    write_page([*own, *(kept or {}).values()], page, title=folder.name, sections=sections)
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
    committed: Committed | None = None,
    stopped: bool = False,
) -> None:
    """Write what a study commits: this sweep's runs, and what was committed of its other jobs.

    Args:
        folders: of its jobs, with a summary.json or without.
        kept: what, and where.
        console: where to print.
        committed: what the study's folder held before.
        stopped: the sweep was; no figures are drawn, and nothing that is committed gets lost.

    Raises:
        ValueError: a group, setting or metric that no job has.
    """
    from clif_exp.compare.reading import read
    from clif_exp.compare.saved import read_saved
    from clif_exp.compare.writing import RUNS, keep
    from clif_exp.studies.figures import keep_figures

    committed = committed or Committed()
    file = Path(kept.folder) / RUNS
    if stopped and committed.stale:
        console.print(
            f"study: {file} stays as it is: it {committed.fate_of_stale()}",
            soft_wrap=True,
            highlight=False,
        )
        return
    written = [folder for folder in folders if (folder / SUMMARY).is_file()]
    known = read_saved(file) if file.is_file() else []
    new = read(written) if written else []
    runs = _in_order_of(known, [*new, *committed.of_jobs.values(), *committed.others])
    if not new and [run.folder for run in runs] == [run.folder for run in known]:
        runs = known  # without the settings that are younger than they: the same file again
    if stopped:
        runs = [run for run in runs if run.status == "finished"]
    if not any(run.status == "finished" for run in runs):
        return
    if stopped and len(runs) == len(committed.borrowed):  # none of its own
        return
    baseline = kept.baseline
    try:
        check_baseline(kept, runs)
    except ValueError:  # it is the study's, as was checked before, and has not begun
        console.print(f"study: no run of {baseline} yet, so no differences", highlight=False)
        baseline = None
    keep(runs, Path(kept.folder), by=kept.group_by, metrics=kept.metrics, baseline=baseline)
    if not stopped:
        keep_figures(runs, Path(kept.folder), kept.figures, by=kept.group_by)
    console.print(f"study: {kept.folder}", soft_wrap=True, highlight=False)


def _in_order_of(known: Sequence[Run], runs: Sequence[Run]) -> list[Run]:
    """Return runs in the order in which a study's file holds them, new ones behind.

    A command that names methods or casts in another order then changes no line of the file.
    """
    places = {run.folder.parts[-2:]: place for place, run in enumerate(known)}
    return sorted(runs, key=lambda run: places.get(run.folder.parts[-2:], len(places)))


def _table(
    summaries: Mapping[Job, dict[str, Any]],
    statuses: Sequence[str],
    *,
    objective: str | None,
) -> Table:
    """Return the jobs by what differs and what was measured."""
    metrics = [summary.get("metrics", {}) for summary in summaries.values()]
    wanted = dict.fromkeys([*([objective] if objective else []), *compared()])
    shown = [name for name in wanted if any(of.get(name) is not None for of in metrics)]
    best = {name: _best([of.get(name) for of in metrics], name) for name in shown}
    settings = [{key_of(it): it.partition("=")[2] for it in job.varying} for job in summaries]
    keys = list(dict.fromkeys(key for one in settings for key in one))
    titles = shorten_keys(keys)
    rows = []
    for one, status, of in zip(settings, statuses, metrics, strict=True):
        words = [*(one.get(key, "") for key in keys), status]
        numbers = [_number(of.get(name), best=best[name]) for name in shown]
        rows.append([*map(Cell, words), *numbers])
    return Table("", [*titles.values(), "status", *map(head, shown)], rows, words=len(keys) + 1)


def _number(value: float | None, *, best: float | None) -> Cell:
    return Cell(MISSING) if value is None else Cell(f"{value:.3f}", best=value == best)


def _best(values: Sequence[float | None], metric: str) -> float | None:
    """Return the best value; None where all are alike, or none is better."""
    known = {value for value in values if value is not None}
    direction = better(metric)
    if direction is None or len(known) < 2:
        return None
    return max(known) if direction == "higher" else min(known)
