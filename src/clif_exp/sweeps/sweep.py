"""One sweep from its command line to its table: skips what is finished, starts the rest."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from clif_exp.artifacts.files import write_text
from clif_exp.artifacts.locks import POLL_SECONDS, is_free, process_lock
from clif_exp.errors import FAILED, REFUSED, TERMINATED
from clif_exp.runs.directory import relative
from clif_exp.runs.entry import exit_codes, run_name
from clif_exp.secrets import masked, secrets_in
from clif_exp.sweeps.jobs import JOB_LOCK, Job, expand, key_of, sweep_name

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext

    from clif_exp.compare.run import Run
    from clif_exp.sweeps.planning import SweepPlan
    from clif_exp.sweeps.settings import KeepSettings
    from clif_exp.sweeps.watching import Watch

EXIT_CODES = {
    "finished": 0,
    "pruned": 0,
    "failed": FAILED,
    "refused": REFUSED,
    "killed": TERMINATED,
}

_OWN_FOLDER = (
    "${paths.sweeps}/${name}"  # hydra.sweep.dir in conf/config.yaml: nobody has chosen one
)


def jobs_of(arguments: Sequence[str], context: HydraContext) -> list[Job]:
    """Return the jobs of a command line.

    Args:
        arguments: overrides; later ones of a key replace earlier ones.
        context: of Hydra.

    Raises:
        ValueError: a range that only a search can sample from.
    """
    parser = OverridesParser.create(config_loader=context.config_loader)
    stated: dict[str, list[str]] = {}
    for override in parser.parse_overrides(list(arguments)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            stated[key] = [override.input_line or f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            stated[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise ValueError(
                f"{key}: found {str(override.input_line).partition('=')[2]}, which has no list of"
                " values;"
                " give some (1,2,3 or range(1,4)), or search it: hparams_search=stage2"
            )
    return expand(list(stated.values()))


def other_jobs(
    jobs: Sequence[Job], stated: Sequence[str], given: Sequence[str], *, context: HydraContext
) -> list[Job]:
    """Return the jobs that a study has beside those of a command line, which may be a part of it.

    Args:
        jobs: of the command line.
        stated: what the study's config sweeps, as overrides.
        given: overrides of the command line.
        context: of Hydra.
    """
    swept = {key_of(override) for override in stated}
    whole = jobs_of([*stated, *(it for it in given if key_of(it) not in swept)], context)
    own = {frozenset(job.overrides) for job in jobs}
    return [job for job in whole if frozenset(job.overrides) not in own]


def rest_of_study(
    kept: KeepSettings,
    composed: Sequence[DictConfig],
    others: Sequence[Job],
    *,
    config: DictConfig,
    context: HydraContext,
) -> dict[Job, DictConfig]:
    """Return a study's other jobs with their configs, if what it keeps depends on them.

    Composing many takes a while, and most sweeps are whole, or tried out in a folder of their own.

    Args:
        kept: what the study keeps.
        composed: configs of the sweep's jobs.
        others: see `other_jobs`.
        config: of the sweep.
        context: of Hydra.

    Raises:
        ValueError: no job of the study belongs to a group that it names.
    """
    from clif_exp.sweeps.kept import check_groups, has_runs

    try:
        check_groups(kept, composed)
    except ValueError:
        if not others:
            raise
    else:
        if not has_runs(kept):
            return {}
    rest = {job: compose(job, config=config, context=context) for job in others}
    check_groups(kept, [*composed, *rest.values()])
    return rest


def compose(job: Job, *, config: DictConfig, context: HydraContext) -> DictConfig:
    """Return a job's config, as its launcher composes it."""
    return context.config_loader.load_sweep_config(config, list(job.overrides))


def place(jobs: Sequence[Job], composed: Sequence[DictConfig], *, config: DictConfig) -> Path:
    """Return a sweep's folder, and note it in its config, where launchers look for it.

    Args:
        jobs: those that name it, by what they are called or differ in.
        composed: their configs.
        config: of the sweep; `hydra.sweep.dir` is set unless the user has.
    """
    stated: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    if stated["dir"] == _OWN_FOLDER:
        name = sweep_name([run_name(one.name) for one in composed], jobs)
        with open_dict(config):
            config.hydra.sweep.dir = str(Path(config.paths.sweeps) / name)
    return Path(str(config.hydra.sweep.dir)).absolute()


def run_sweep(
    jobs: Sequence[Job],
    composed: Sequence[DictConfig],
    *,
    config: DictConfig,
    launcher: Launcher,
    kept: KeepSettings | None = None,
    rest: Mapping[Job, DictConfig] | None = None,
) -> list[Any]:
    """Run the jobs that are not finished; print what comes and what came.

    Args:
        jobs: with their folders.
        composed: their configs.
        config: of the sweep.
        launcher: starts them.
        kept: what a study commits in the end.
        rest: the study's other jobs with their configs, where the sweep is a part of it.

    Returns:
        What the launcher returned.

    Raises:
        ValueError: another sweep writes into the same folder, or every job would be refused for one
            and the same reason.
    """
    from rich.console import Console

    from clif_exp.sweeps.importing import import_everything
    from clif_exp.sweeps.kept import committed_runs, has_runs
    from clif_exp.sweeps.planning import foresee, plan_sweep
    from clif_exp.sweeps.results import keep_study, show_results
    from clif_exp.sweeps.watching import Watch

    folder = jobs[0].folder.parent
    console = Console()
    with only_sweep_in(folder):
        write_config(folder, config)
        import_everything()
        _wait_for_earlier(jobs)
        others = rest if rest and has_runs(kept) else {}
        known, configs = [*jobs, *others], [*composed, *others.values()]
        forecasts = foresee(configs)
        committed = committed_runs(kept, known, configs, forecasts, started=len(jobs))
        plan = plan_sweep(jobs, forecasts[: len(jobs)], kept=committed.of_jobs)
        console.print(plan.line(), soft_wrap=True, highlight=False)
        if plan.reason is not None:
            raise ValueError(f"{plan.reason} (so each of the {len(plan.pending)} jobs)")
        if kept is not None and committed.stale:
            said = f"study: {kept.folder} {committed.fate_of_stale()}"
            console.print(said, soft_wrap=True, highlight=False)
        objective = config.get("objective")
        watch = Watch(plan.pending, seconds=plan.seconds, objective=objective, console=console)
        returned: list[Any] | None = None
        try:
            returned = list(_launch(launcher, plan.pending, watch)) if plan.pending else []
        finally:
            watch.close()
            summaries = {job: _summary(job, plan, watch, committed.of_jobs) for job in jobs}
            statuses = show_results(
                summaries,
                folder=folder,
                objective=objective,
                console=console,
                kept=committed.of_jobs,
            )
            exit_codes.extend(EXIT_CODES.get(status, FAILED) for status in statuses)
            if kept is not None:
                own = [job for job in jobs if summaries[job] and job not in committed.of_jobs]
                keep_study(
                    [job.folder for job in own],
                    kept,
                    console=console,
                    committed=committed,
                    stopped=returned is None,
                )
    return returned


def _summary(job: Job, plan: SweepPlan, watch: Watch, kept: Mapping[Job, Run]) -> dict[str, Any]:
    """Return what a job's summary.json says; empty if it was to start, and has not."""
    if job in kept:
        return {"status": kept[job].status, "metrics": kept[job].metrics}
    return job.summary() if job in plan.finished else watch.fresh(job) or {}


def write_config(folder: Path, config: DictConfig) -> None:
    """Write a sweep's config into its folder, without secrets; it marks the folder as a sweep's."""
    secrets = secrets_in(OmegaConf.to_container(config, resolve=False))
    write_text(folder / "multirun.yaml", masked(OmegaConf.to_yaml(config), known=secrets))


def _wait_for_earlier(jobs: Sequence[Job]) -> None:
    """Wait for jobs that a killed call has left running: on a cluster, or about to end."""
    if left := [job for job in jobs if not is_free(job.folder / JOB_LOCK)]:
        print(f"waiting for what an earlier call has left running: {left[0].name}", flush=True)
    for job in left:
        while not is_free(job.folder / JOB_LOCK):
            time.sleep(POLL_SECONDS)


def _launch(launcher: Any, jobs: Sequence[Job], watch: Any) -> Sequence[Any]:
    """Start jobs; our own launcher looks at them itself, others keep this process waiting."""
    overrides = [job.launched() for job in jobs]
    if hasattr(launcher, "tick"):
        launcher.tick = watch.look
    else:
        watch.follow()
    try:
        returned: Sequence[Any] = launcher.launch(overrides, initial_job_idx=0)
    except Exception as error:  # a job's own errors stand in its summary.json
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"hydra/launcher: {said[-1]}; jobs that it has started may go on, the same command"
            " waits for them and starts the others"
        ) from error
    return returned


@contextlib.contextmanager
def only_sweep_in(folder: Path) -> Iterator[None]:
    """Hold a sweep's folder, and make it.

    Raises:
        ValueError: another sweep holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(process_lock(folder / ".sweep.lock", timeout=0.0))
        except TimeoutError as error:
            raise ValueError(
                f"name: another sweep writes into {relative(folder)} ({error}); wait until it has"
                " ended, or give this one a folder of its own: name=NAME"
            ) from error
        yield
