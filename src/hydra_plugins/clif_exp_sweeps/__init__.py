"""Hydra's way to this package's sweeps; the work is done in `clif_exp.sweeps`.

Hydra imports every plugin at every start: nothing heavy may be imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

_MANY = 20  # jobs whose composing and foreseeing takes long enough to say so


class ResumingSweeper(Sweeper):
    """Every combination of the stated values; what an earlier call has finished is skipped."""

    def __init__(
        self, params: dict[str, str] | None = None, keep: dict[str, Any] | None = None
    ) -> None:
        """Remember what the config states.

        Args:
            params: key -> values, as on the command line.
            keep: `clif_exp.sweeps.settings.KeepSettings`; None keeps nothing besides the jobs.
        """
        stated: Any = OmegaConf.to_container(OmegaConf.create(dict(params or {})), resolve=True)
        self.params, self.keep = stated, keep

    def setup(
        self,
        *,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
    ) -> None:
        """Find the jobs, the sweep's folder, into which some launchers write, and the launcher."""
        from clif_exp.runs.composing import given_overrides
        from clif_exp.sweeps.jobs import as_override
        from clif_exp.sweeps.launchers import start_launcher
        from clif_exp.sweeps.results import check_keep
        from clif_exp.sweeps.sweep import compose, jobs_of, other_jobs, place, rest_of_study

        self.config = config
        stated = [
            f"{key}={value if isinstance(value, str) else as_override(value)}"
            for key, value in self.params.items()
        ]
        given = given_overrides(config.hydra)["task"]
        jobs = jobs_of([*stated, *given], hydra_context)
        if len(jobs) >= _MANY:
            print(f"{len(jobs)} jobs: looking up what is there", flush=True)
        self.composed = [compose(job, config=config, context=hydra_context) for job in jobs]
        folder = place(jobs, self.composed, config=config)
        self.jobs = [job.placed(folder) for job in jobs]
        self.kept, self.rest = check_keep(self.keep), {}
        if self.kept is not None:
            self.rest = rest_of_study(
                self.kept,
                self.composed,
                other_jobs(jobs, stated, given, context=hydra_context),
                config=config,
                context=hydra_context,
            )
        self.launcher = start_launcher(
            config, self.composed, context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs that are left to do."""
        from clif_exp.runs.composing import given_overrides
        from clif_exp.sweeps.sweep import run_sweep

        assert self.config is not None and self.launcher is not None
        assert arguments == given_overrides(self.config.hydra)["task"], "what `setup` has read"
        return run_sweep(
            self.jobs,
            self.composed,
            config=self.config,
            launcher=self.launcher,
            kept=self.kept,
            rest=self.rest,
        )


class LocalLauncher(Launcher):
    """Jobs on this machine, each in a process of its own that shares the sweep's imports."""

    def __init__(self, workers: Any = "auto") -> None:
        """Remember what the config states.

        Args:
            workers: jobs at once; "auto": as many as the GPUs serve, 1 without GPUs.
        """
        self.workers = workers
        self.tick: Any = None
        self.ended: Any = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Remember what jobs are made of."""
        if self.workers == "auto":
            from clif_exp.sweeps.gpus import workers_for

            self.workers = workers_for(config)
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs, the next when one has ended; their results are in their folders."""
        from clif_exp.sweeps.local import launch

        started: list[list[str]] = []

        def noted() -> Iterator[list[str]]:
            for overrides in job_overrides:
                started.append(list(overrides))
                yield started[-1]

        codes = launch(
            noted(),
            first=initial_job_idx,
            config=self.config,
            context=self.hydra_context,
            task=self.task_function,
            workers=self.workers,
            tick=self.tick or (lambda: None),
            ended=self.ended or (lambda _index: None),
        )
        status = [JobStatus.FAILED if code else JobStatus.COMPLETED for code in codes]
        return [
            JobReturn(overrides=overrides, status=one)
            for overrides, one in zip(started, status, strict=True)
        ]
