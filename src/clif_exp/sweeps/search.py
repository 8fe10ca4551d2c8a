"""One search from its command line to its best settings: Optuna chooses what each job tries."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from clif_exp.evaluation.metrics import better_end
from clif_exp.runs.checking import check
from clif_exp.runs.composing import given_overrides
from clif_exp.runs.config import validate
from clif_exp.runs.entry import exit_codes
from clif_exp.runs.execution import duration
from clif_exp.sweeps.jobs import Job
from clif_exp.sweeps.settings import KeepSettings, SearchSettings
from clif_exp.sweeps.space import read_space
from clif_exp.sweeps.study import Claim, Search, SharedStudy
from clif_exp.sweeps.sweep import EXIT_CODES, compose, place, write_config

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext

    from clif_exp.sweeps.watching import Watch


def prepare(
    values: Mapping[str, Any], *, config: DictConfig, context: HydraContext
) -> tuple[Search, list[DictConfig]]:
    """Check a search before anything runs.

    Args:
        values: its settings, as the config states them.
        config: of the sweep; `hydra.sweep.dir` is set unless the user has.
        context: of Hydra.

    Returns:
        The search, and the configs of jobs at the ends of its space.

    Raises:
        ValueError: no Optuna, no objective, a setting or a space that cannot work.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ValueError(
            "hydra/sweeper: found optuna, but the package is not installed;"
            ' pip install "clif_exp[optuna]"'
        )
    plain: Any = OmegaConf.to_container(OmegaConf.create(dict(values)), resolve=True)
    settings = check(SearchSettings, plain, where=("hydra", "sweeper"))
    objective = config.get("objective")
    if objective is None:
        raise ValueError(
            "objective: found null, but a search needs a metric of summary.json to optimise, as in"
            " objective=multi/intact"
        )
    arguments = given_overrides(config.hydra)["task"]
    space = read_space(settings.params, arguments, loader=context.config_loader)
    ends = space.ends()
    composed = [compose(one, config=config, context=context) for one in ends]
    _refuse_unusable(composed)
    best: Any = "maximize" if better_end(objective) == "higher" else "minimize"
    # What varies names the folder, not one of its values.
    names = tuple(f"{key}=" for key in space.distributions)
    folder = place([replace(one, varying=names) for one in ends], composed, config=config)
    direction = settings.direction or best
    return Search(settings, space, objective, direction, folder, config, context), composed


def _refuse_unusable(ends: Sequence[DictConfig]) -> None:
    """Refuse a space that no job could use: unknown keys, fractions for whole numbers.

    Raises:
        ValueError: as the first job would say it.
    """
    refusals = []
    for composed in ends:
        try:
            # Hydra's own part is whole in a started job only.
            plain: Any = OmegaConf.masked_copy(
                composed, [str(key) for key in composed if key != "hydra"]
            )
            validate(OmegaConf.to_container(plain, resolve=True, throw_on_missing=True))  # type: ignore[arg-type]
        except ValueError as error:
            refusals.append(error)
    if len(refusals) == len(ends):  # what only one end does not allow may be a limit to be found
        raise refusals[0]


def run_search(search: Search, *, launcher: Launcher, kept: KeepSettings | None = None) -> None:
    """Run trials until there are as many as were asked for; write what was found.

    Args:
        search: checked.
        launcher: starts the jobs.
        kept: what a study commits in the end.

    Raises:
        ValueError: the study's file holds something else, or another search.
    """
    from rich.console import Console

    from clif_exp.sweeps.importing import import_everything
    from clif_exp.sweeps.outcome import write_outcome
    from clif_exp.sweeps.results import keep_study
    from clif_exp.sweeps.watching import Watch

    console = Console()
    search.folder.mkdir(parents=True, exist_ok=True)
    study = SharedStudy(search)
    write_config(search.folder, search.config)
    import_everything()
    left = search.settings.n_trials - sum(trial.state.is_finished() for trial in study.trials())
    line, seconds = _forecast(search, study, left=left)
    console.print(line, soft_wrap=True, highlight=False)
    if left > 0:
        watch = Watch((), seconds=seconds, objective=search.objective, console=console, total=left)
        try:
            _Dispatch(search, study, watch).run(launcher)
        finally:
            watch.close()
    write_outcome(search, study, console=console)
    if kept is not None:
        keep_study(sorted(search.folder.glob("*/")), kept, console=console)
    exit_codes[:] = [_exit_code(study)]  # in place of single jobs' of launchers in this process


def _forecast(search: Search, study: SharedStudy, *, left: int) -> tuple[str, float]:
    """Say what is left to do, and about how long it takes."""
    from clif_exp.sweeps.planning import foresee

    states = [trial.state for trial in study.trials()]
    ended = {
        name: sum(state.name == code for state in states)
        for name, code in (("finished", "COMPLETE"), ("pruned", "PRUNED"), ("failed", "FAIL"))
    }
    done = ", ".join(f"{number} {name}" for name, number in ended.items() if number)
    line = f"search for {search.objective} over {search.settings.n_trials} trials"
    line += f", {done}" if done else ""
    if left <= 0:
        return f"{line}: nothing is left to do", 0.0
    ends = search.space.ends()
    first, last = foresee(
        [compose(job, config=search.config, context=search.context) for job in ends]
    )
    # What both ends need is computed once, the rest by each trial.
    shared = {key: cost for key, cost in first.missing.items() if key in last.missing}
    own = (sum(first.missing.values()) + sum(last.missing.values())) / 2 - sum(shared.values())
    seconds = sum(shared.values()) + own * left / search.settings.jobs_at_once(search.config)
    resumed = len(study.unfinished())
    again = f", {resumed} of them begun" if resumed else ""
    return f"{line}: {left} to run{again}, about {duration(seconds)} if none is pruned", seconds


class _Dispatch:
    """Hands trials to a launcher, and what came of them to the study."""

    def __init__(self, search: Search, study: SharedStudy, watch: Watch) -> None:
        self._search, self._study, self._watch = search, study, watch
        self._started: list[tuple[int, Job]] = []

    def run(self, launcher: Any) -> None:
        """Run trials; our own launcher asks for the next one when one has ended."""
        if hasattr(launcher, "ended"):
            launcher.tick, launcher.ended = self._watch.look, self._ended
            launcher.workers = self._search.settings.jobs_at_once(self._search.config)
            launcher.launch(self._jobs(), initial_job_idx=0)
            return
        self._watch.follow()
        jobs = self._jobs()
        at_once = self._search.settings.jobs_at_once(self._search.config)
        while batch := list(itertools.islice(jobs, at_once)):
            first = len(self._started) - len(batch)
            launcher.launch(batch, initial_job_idx=first)
            for index in range(first, len(self._started)):
                self._ended(index)

    def _jobs(self) -> Iterator[list[str]]:
        while (claim := self._study.claim()) is not None:
            job = self._job(claim)
            known = job.summary()
            # Its runner may have been killed between the job's end and telling the study.
            if claim.folder is not None and known.get("status", "killed") != "killed":
                self._tell(claim.number, known)
                continue
            self._study.note_folder(claim.number, job.folder.name)
            self._started.append((claim.number, job))
            self._watch.add(job)
            yield job.launched()

    def _job(self, claim: Claim) -> Job:
        job = self._search.space.job(claim.values)
        name = claim.folder or f"{claim.number:03d}-{job.folder_name}"
        private = self._study.overrides(claim.number)
        return replace(job, folder=self._search.folder / name, private=private)

    def _ended(self, place: int) -> None:
        number, job = self._started[place]
        self._tell(number, job.summary())

    def _tell(self, number: int, summary: Mapping[str, Any]) -> None:
        self._study.tell(number, summary, objective=self._search.objective)


def _exit_code(study: SharedStudy) -> int:
    """Return 0 for a search that has an answer, whatever became of some trials."""
    states = {trial.state.name for trial in study.trials()}
    if study.left:
        return EXIT_CODES["killed"]
    # Trials that run are other processes'.
    return 0 if states & {"COMPLETE", "PRUNED", "RUNNING"} else EXIT_CODES["failed"]
