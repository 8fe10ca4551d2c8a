"""What a search has found: a table, an experiment with the best settings, and two plots."""

from __future__ import annotations

import html
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.files import write_text
from clif_exp.compare.content import shorten_keys
from clif_exp.compare.formats import print_tables
from clif_exp.compare.table import Cell, Table
from clif_exp.reporting import plots
from clif_exp.runs.directory import SUMMARY, relative
from clif_exp.sweeps.best import experiment
from clif_exp.sweeps.jobs import key_of
from clif_exp.sweeps.results import write_comparison
from clif_exp.sweeps.watching import STYLES

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial
    from rich.console import Console

    from clif_exp.sweeps.study import Search, SharedStudy

_SHOWN = 10  # trials in the table
_INK = re.compile("#1f2937|#374151|#6b7280")  # of text and ticks


def write_outcome(search: Search, study: SharedStudy, *, console: Console) -> None:
    """Print the best trials, and write best.yaml, plots and the page that compares all.

    Args:
        search: what was searched.
        study: what was found, by all processes.
        console: where to print.
    """
    ranked = _ranked(study.trials(), direction=search.direction)
    _show(search, study.trials(), ranked, console=console)
    for name, (_, figure) in _figures(study.study, objective=search.objective).items():
        write_text(search.folder / f"{name}.svg", plots.svg(figure))
    if any(search.folder.glob(f"*/{SUMMARY}")):
        shown = sections(study.study, objective=search.objective)
        write_comparison(search.folder, console=console, sections=shown)
    if not ranked:
        return
    best, file = ranked[0], search.folder / "best.yaml"
    found = (
        f"The best of {len(study.trials())} trials of the search {study.study.study_name}:"
        f" {search.objective} {best.value:.4g} in trial {best.number}"
    )
    overrides = search.space.job(best.params).overrides
    loader = search.context.config_loader
    write_text(file, experiment(overrides, found=found, file=file, loader=loader))
    console.print(f"best settings, as an experiment: {relative(file)}", soft_wrap=True)


def sections(study: optuna.Study, *, objective: str) -> list[tuple[str, str]]:
    """Return what a comparison page shows of a search: titles, each with an inline SVG.

    Args:
        study: Optuna's.
        objective: the metric's name.
    """
    found = []
    for title, figure in _figures(study, objective=objective).values():
        drawing = plots.svg(figure)
        drawing = drawing[drawing.index("<svg") :]  # HTML knows no XML prolog
        # Text takes the page's colour, which its dark mode changes.
        drawing = _INK.sub("currentColor", drawing)
        found.append((title, f'<figure aria-label="{html.escape(title)}">{drawing}</figure>'))
    return found


def sections_of(folder: Path) -> list[tuple[str, str]]:
    """Return the sections of a search's folder; none for another sweep's.

    Args:
        folder: the sweep's.
    """
    from omegaconf import OmegaConf

    from clif_exp.runs.studies import open_storage

    file = folder / "multirun.yaml"
    config: Any = OmegaConf.load(file) if file.is_file() else {}
    sweeper = config["hydra"]["sweeper"] if config else {}
    if not str(sweeper.get("_target_", "")).endswith("OptunaSweeper"):
        return []
    import optuna

    study = optuna.load_study(
        study_name=sweeper.get("study_name") or folder.absolute().name,
        storage=open_storage(str(sweeper.get("storage") or folder / "study.journal")),
    )
    return sections(study, objective=str(config["objective"]))


def _ranked(trials: Sequence[FrozenTrial], *, direction: str) -> list[FrozenTrial]:
    """Return the finished trials, the best first."""
    finished = [trial for trial in trials if trial.state.name == "COMPLETE"]
    sign = 1.0 if direction == "minimize" else -1.0
    return sorted(finished, key=lambda trial: sign * (trial.value or 0.0))


def _show(
    search: Search,
    trials: Sequence[FrozenTrial],
    ranked: Sequence[FrozenTrial],
    *,
    console: Console,
) -> None:
    from rich.text import Text

    counted = Counter(_status(trial) for trial in trials)
    best_first = "lowest" if search.direction == "minimize" else "highest"
    rows = []
    for trial in ranked[:_SHOWN]:
        values = [it.partition("=")[2] for it in search.space.job(trial.params).varying]
        rows.append([*map(Cell, (str(trial.number), *values, f"{trial.value:.3f}"))])
    keys = shorten_keys([*map(key_of, search.space.distributions)]).values()
    if rows:
        title = f"{search.folder.name}: best trials ({best_first} {search.objective})"
        print_tables([Table(title, ["trial", *keys, search.objective], rows)], [])
    line = Text(f"{len(trials)} trials: ")
    for place, (status, number) in enumerate(counted.items()):
        line.append(f"{', ' if place else ''}{number} ")
        line.append(status, STYLES.get(status, ""))
    console.print(line, soft_wrap=True)
    console.print(f"jobs: {relative(search.folder)}", soft_wrap=True, highlight=False)


def _status(trial: FrozenTrial) -> str:
    """Return how a trial's job ended; what finished without a value has no place in the search."""
    if not trial.state.is_finished():
        return "not ended"
    status = str(trial.user_attrs.get("status", "failed"))
    return "without a value" if (status, trial.state.name) == ("finished", "FAIL") else status


def _figures(study: optuna.Study, *, objective: str) -> dict[str, tuple[str, Any]]:
    """Draw what there is to draw: name -> title and figure."""
    found = {}
    finished = [one for one in study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"]
    if finished:
        found["history"] = ("How the search went", _history(study, objective=objective))
    if importance := _importance(study):
        found["importance"] = ("Which settings matter", _bars(importance, objective=objective))
    return found


def _importance(study: optuna.Study) -> Mapping[str, float]:
    """Return each setting's share in what the objective depends on; empty if it cannot be told."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is experimental in Optuna
        try:
            return optuna.importance.get_param_importances(study)
        except (RuntimeError, ValueError):  # too few finished trials, or all alike
            return {}


def _bars(importance: Mapping[str, float], *, objective: str) -> Any:
    figure, axes = plots.new_figure(4.6, 1.0 + 0.34 * len(importance))
    names = [key_of(key) for key in importance]
    axes.barh(range(len(names)), list(importance.values()), height=0.7, color=plots.ACCENT)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(title="Importance (PED-ANOVA)", xlabel=f"share in {objective}", xlim=(0, 1.02))
    return figure


def _history(study: optuna.Study, *, objective: str) -> Any:
    """Draw every trial's value, the best so far, and on the floor those without a value."""
    figure, axes = plots.new_figure(4.6, 2.9)
    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state.name == "COMPLETE"]
    numbers = [trial.number for trial in finished]
    values = [float(trial.value or 0.0) for trial in finished]
    pick = min if study.direction.name == "MINIMIZE" else max
    best = [pick(values[: place + 1]) for place in range(len(values))]
    axes.step(numbers, best, where="post", color=plots.ACCENT, linewidth=1.6, label="best so far")
    axes.scatter(numbers, values, color=plots.ACCENT, s=18, linewidths=0, alpha=0.7, zorder=3)
    for state, marker, colour, label in (
        ("PRUNED", "|", plots.SECOND, "pruned"),
        ("FAIL", "x", plots.GREY, "failed"),
    ):
        without = [trial.number for trial in trials if trial.state.name == state]
        if without:
            floor = axes.get_xaxis_transform()
            places = [0.03] * len(without)
            axes.scatter(
                without, places, marker=marker, color=colour, transform=floor, label=label, s=28
            )
    axes.set(title="Optimisation history", xlabel="trial", ylabel=objective)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#eef0f3")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, fontsize=8)
    return figure
