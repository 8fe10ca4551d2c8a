"""What a sweep will cost: which jobs are finished, and which stages are computed, each once."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from clif_exp.runs.execution import duration
from clif_exp.sweeps.jobs import Job


@dataclass(frozen=True)
class Forecast:
    """What one job will do.

    Attributes:
        stages: what a job calls an artifact -> its fingerprint.
        missing: fingerprint -> about how many seconds computing it takes.
        error: why the job cannot be foreseen; it is started all the same, and says so itself.
        refused: the reason is its config or input.
    """

    stages: dict[str, str] = field(default_factory=dict)
    missing: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    refused: bool = False

    def is_done(self, summary: dict[str, Any]) -> bool:
        """Tell whether a job's summary.json already holds all this."""
        made = summary.get("stages", {})
        return (
            self.error is None
            and summary.get("status") == "finished"
            and all(made.get(key, {}).get("fingerprint") == it for key, it in self.stages.items())
        )


@dataclass(frozen=True)
class SweepPlan:
    """A sweep's jobs, foreseen together.

    Attributes:
        finished: jobs that an earlier call has finished, here or where the study was committed.
        pending: jobs to start, in order.
        computed: stages that will be computed, each counted once.
        reused: stages of pending jobs that the store has, or that an earlier job of the sweep
            computes.
        seconds: about how long the computed ones take, one after the other.
        refused: how many of the pending jobs will be refused.
        reason: why, where all of them will be for the same reason; else None.
    """

    finished: list[Job]
    pending: list[Job]
    computed: int
    reused: int
    seconds: float
    refused: int
    reason: str | None = None

    def line(self) -> str:
        """Say in a sentence what will be done."""
        total = len(self.finished) + len(self.pending)
        done = f", {len(self.finished)} of them finished" if self.finished else ""
        if not self.pending:
            return f"{count(total, 'job')}{done}: nothing is left to do"
        return (
            f"{count(total, 'job')}{done}: {count(self.computed, 'stage')} to compute, about"
            f" {duration(self.seconds)}; {count(self.reused, 'stage')} reused"
            + (f"; {count(self.refused, 'job')} will be refused" if self.refused else "")
        )


def count(number: int, noun: str) -> str:
    """Write a number with its noun: "1 job", "2 jobs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def plan_sweep(
    jobs: Sequence[Job], forecasts: Sequence[Forecast], *, kept: Container[Job] = ()
) -> SweepPlan:
    """Count what is left to do, as if the jobs ran one after the other.

    Args:
        jobs: of the sweep.
        forecasts: in the same order.
        kept: those whose results a study has kept.
    """
    finished, pending = [], []
    computed: dict[str, float] = {}
    reused = 0
    reasons: list[str | None] = []
    for job, forecast in zip(jobs, forecasts, strict=True):
        if job in kept or forecast.is_done(job.summary()):
            finished.append(job)
            continue
        pending.append(job)
        if forecast.refused:
            reasons.append(forecast.error)
        new = {it: cost for it, cost in forecast.missing.items() if it not in computed}
        reused += len(forecast.stages) - len(new)
        computed |= new
    one = len(reasons) == len(pending) > 1 and len(set(reasons)) == 1
    return SweepPlan(
        finished,
        pending,
        len(computed),
        reused,
        sum(computed.values()),
        refused=len(reasons),
        reason=reasons[0] if one else None,
    )


def foresee(composed: Sequence[DictConfig]) -> list[Forecast]:
    """Foresee every job in a process of its own, which leaves this one without models or CUDA.

    Args:
        composed: the jobs' configs.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=_foresee, args=(composed, receiver, sender))
    worker.start()
    sender.close()
    found: list[Forecast] = []
    with contextlib.suppress(EOFError):  # It has died: each job will say for itself what is wrong.
        while len(found) < len(composed):
            found.append(receiver.recv())
    worker.join()
    return found + [Forecast(error="unknown")] * (len(composed) - len(found))


def _foresee(composed: Sequence[DictConfig], receiver: Any, results: Any) -> None:
    import logging

    from omegaconf import OmegaConf, open_dict

    from clif_exp.artifacts.store import ArtifactStore
    from clif_exp.runs import pipeline
    from clif_exp.runs.config import validate
    from clif_exp.runs.execution import first_guess

    receiver.close()  # so that nobody holds it when the sweep's process is killed
    logging.disable(logging.CRITICAL)  # each job says it again
    rates: dict[tuple[str, str], float | None] = {}

    def seconds(store: ArtifactStore, name: str, work: float) -> float:
        key = (str(store.root), name)
        if key not in rates:  # reading all records again for every job takes minutes
            known = store.estimate_seconds(name, work=work)
            rates[key] = None if known is None else known / work
        rate = rates[key]
        return first_guess(name, work=work) if rate is None else rate * work

    for one in composed:
        try:
            with open_dict(one):
                del one["hydra"]
            plain: Any = OmegaConf.to_container(one, resolve=True, throw_on_missing=True)
            found = pipeline.forecast(pipeline.prepare(validate(plain)))
        except Exception as error:
            refused = isinstance(error, ValueError | FileNotFoundError)
            results.send(Forecast(error=str(error), refused=refused))
            continue
        prints = {key: artifact.fingerprint for key, artifact in found.artifacts.items()}
        missing = {
            prints[key]: seconds(found.plan.store, name, work)
            for key, (name, work) in found.missing.items()
        }
        results.send(Forecast(prints, missing))
