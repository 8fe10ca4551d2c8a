"""What a study has committed counts as finished: a sweep goes on with it on any machine.

A run of runs.json stands for a job if every artifact that the job would make has the fingerprint
that the run's had, and its settings are the job's. Runs of other studies do so where a study says
which (`keep.reuse`); there the study's name may be another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from clif_exp.compare import measures
from clif_exp.compare.config_values import flat_settings
from clif_exp.compare.grouping import find_group, group
from clif_exp.compare.run import Run, Scalar
from clif_exp.compare.saved import FINGERPRINT_DIGITS, is_place, read_saved
from clif_exp.compare.writing import RUNS
from clif_exp.sweeps.jobs import Job
from clif_exp.sweeps.planning import count

if TYPE_CHECKING:
    from clif_exp.sweeps.planning import Forecast
    from clif_exp.sweeps.settings import KeepSettings

# How something was computed; where that matters to the result, the fingerprints say so.
_MEANS = ("trainer", "num_workers")
_OPTION = "hydra.sweeper.keep"
_STUDY = "name"  # the setting that says which study a run belongs to


@dataclass(frozen=True)
class Committed:
    """What a study's runs.json holds when a sweep begins.

    Attributes:
        of_jobs: jobs of the sweep that need not run, and the runs that stand for them.
        borrowed: those of them that stand in another study's file.
        others: runs of the study's other jobs, where the sweep is only a part of it.
        stale: how many finished runs are of another state of the study; they will be replaced.
    """

    of_jobs: Mapping[Job, Run] = field(default_factory=dict)
    borrowed: frozenset[Job] = frozenset()
    others: Sequence[Run] = ()
    stale: int = 0

    def fate_of_stale(self) -> str:
        """Say what happens to the stale runs, of a file that "holds ..."."""
        return f"holds {count(self.stale, 'run')} that this command will replace when it ends"


def check_groups(kept: KeepSettings, composed: Sequence[DictConfig]) -> None:
    """Refuse metrics that there are none of, and groups that the study's jobs do not have.

    Args:
        kept: what the study keeps.
        composed: configs of all its jobs.

    Raises:
        ValueError: an unknown metric or setting, or a baseline that no job belongs to.
    """
    measures.check(kept.metrics, option=f"{_OPTION}.metrics")
    check_baseline(
        kept,
        [
            Run(Path(), "", None, "finished", error=None, seed=0, settings=it, metrics={})
            for it in map(_settings, composed)
        ],
    )


def check_baseline(kept: KeepSettings, runs: Sequence[Run]) -> None:
    """Refuse runs that do not have the groups of a study.

    Raises:
        ValueError: an unknown setting, or a baseline that no run belongs to.
    """
    found = group(runs, kept.group_by, option=f"{_OPTION}.group_by")
    if kept.baseline is not None:
        find_group(found, kept.baseline, option=f"{_OPTION}.baseline")


def has_runs(kept: KeepSettings | None) -> bool:
    """Tell whether something of a study has been committed."""
    return kept is not None and (Path(kept.folder) / RUNS).is_file()


def committed_runs(
    kept: KeepSettings | None,
    jobs: Sequence[Job],
    composed: Sequence[DictConfig],
    forecasts: Sequence[Forecast],
    *,
    started: int,
) -> Committed:
    """Find what the study's runs.json already holds of its jobs.

    None stands for a job where a figure is drawn from images or artifacts, which that file does not
    hold.

    Args:
        kept: what the study keeps, and where.
        jobs: of the study.
        composed: their configs, in the same order.
        forecasts: what they will make, in the same order.
        started: how many of them, from the first on, are the sweep's.

    Raises:
        ValueError: runs.json is damaged, or of a later version.
    """
    if kept is None:
        return Committed()
    left = _finished_in(kept.folder)
    if not all(figure.from_saved for figure in kept.figures):
        return Committed(stale=len(left))
    shared = [
        replace(run, settings={key: it for key, it in run.settings.items() if key != _STUDY})
        for folder in kept.reuse
        for run in _finished_in(folder)
    ]
    found: dict[int, Run] = {}
    borrowed = set()
    for place, (config, forecast) in enumerate(zip(composed, forecasts, strict=True)):
        if (run := _stands_for(left, config, forecast)) is not None:
            left.remove(run)
        elif place < started and (run := _stands_for(shared, config, forecast)) is not None:
            borrowed.add(jobs[place])
        else:
            continue
        found[place] = _with_younger_settings(run, config)
    of_jobs = {
        jobs[place]: run
        for place, run in found.items()
        if place < started and not forecasts[place].is_done(jobs[place].summary())
    }
    return Committed(
        of_jobs=of_jobs,
        borrowed=frozenset(borrowed & of_jobs.keys()),
        others=tuple(run for place, run in found.items() if place >= started),
        stale=len(left),
    )


def _finished_in(folder: str) -> list[Run]:
    file = Path(folder) / RUNS
    known = read_saved(file) if file.is_file() else []
    return [run for run in known if run.status == "finished"]


def _stands_for(runs: Sequence[Run], config: DictConfig, forecast: Forecast) -> Run | None:
    """Return the run that stands for a job, first one that was computed by the same means."""
    wanted = {name: it[:FINGERPRINT_DIGITS] for name, it in forecast.stages.items()}
    if forecast.error is not None or not wanted or not config.artifacts.reuse:
        return None
    same = [run for run in runs if wanted.items() <= run.artifacts.items()]
    if not same:
        return None
    stated = _settings(config)
    means = {key for key in stated if key.split(".")[0] in _MEANS}
    matching = [run for run in same if not _differing(run, stated) - means]
    if not matching:
        return None
    return min(matching, key=lambda run: len(_differing(run, stated)))


def _with_younger_settings(run: Run, config: DictConfig) -> Run:
    """Return a run with the settings that came after it, so that it can be a new run's pair."""
    return replace(run, settings={**_settings(config), **run.settings})


def _settings(config: DictConfig) -> dict[str, Scalar]:
    """Return a job's settings, without where it puts its results."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    return {key: value for key, value in flat_settings(plain).items() if not is_place(key)}


def _differing(run: Run, stated: Mapping[str, Scalar]) -> set[str]:
    return {key for key, value in stated.items() if run.settings.get(key, value) != value}
