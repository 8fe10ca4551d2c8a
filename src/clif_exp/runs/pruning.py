"""Reports a search's job to its study while a stage trains, and stops it where the pruner says so.

Only a job of a search imports this package's optional Optuna.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger

from clif_exp.artifacts.store import process_rank
from clif_exp.errors import Pruned
from clif_exp.runs.settings import PruningSettings, TrialSettings
from clif_exp.runs.studies import open_storage

if TYPE_CHECKING:
    from optuna.trial import Trial

log = logging.getLogger("clif_exp")


def pruning_loggers(settings: PruningSettings, *, curve: str) -> Sequence[Logger]:
    """Return what reports a curve: nothing, if another one decides or the job is no trial.

    Args:
        settings: the job's.
        curve: the training stage, as the run calls its artifact.
    """
    stage, _, column = (settings.metric or "").partition("/")
    if settings.trial is None or stage != curve or process_rank() > 0:
        return ()
    return (PruningLogger(settings.trial, metric=f"{stage}/{column}"),)


class PruningLogger(Logger):
    """A Lightning logger that reports one metric of a stage, of which less is better."""

    def __init__(self, trial: TrialSettings, *, metric: str) -> None:
        """Name the trial, whose study is opened at the first report.

        Args:
            trial: what the job is.
            metric: `stage/column`.
        """
        super().__init__()
        self._settings, self._metric = trial, metric
        self._silent, self._sign = False, 1.0

    @property
    def name(self) -> str:
        """The study's name."""
        return self._settings.study

    @property
    def version(self) -> int:
        """The trial's number."""
        return self._settings.number

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing: the study knows the trial's parameters."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Report a step's value, once; step 0 is the same for every trial.

        Raises:
            Pruned: the pruner stops the trial.
        """
        value = metrics.get(self._metric.partition("/")[2])
        if not step or value in (None, "") or self._silent:
            return
        try:
            stop = self._report(float(value), step)
        except Exception as error:  # A run does not end because its study cannot be reached.
            self._silent = True
            log.warning("pruning: %s. This job is not stopped early.", " ".join(str(error).split()))
            return
        if stop:
            raise Pruned(
                f"pruned at step {step} by the search's pruner: {self._metric} is"
                f" {float(value):.4g}, which promises less than other trials"
            )

    def _report(self, value: float, step: int) -> bool:
        """Report a value; tell whether the trial is to be stopped.

        A resumed stage repeats steps: those are not reported again, but the last one is judged
        again, as the job may have been killed before it was stopped.
        """
        trial, known = self._trial
        if step not in known:
            if not math.isfinite(value):
                return False
            known.add(step)
            trial.report(self._sign * value, step)
        elif step < max(known):
            return False
        return trial.should_prune()

    @cached_property
    def _trial(self) -> tuple[Trial, set[int]]:
        """The trial, and the steps that it has reported."""
        import optuna
        from hydra.utils import instantiate

        settings = self._settings
        study = optuna.load_study(
            study_name=settings.study,
            storage=open_storage(settings.storage),
            pruner=instantiate(settings.pruner),
        )
        # Optuna judges intermediate values by the objective's direction.
        self._sign = 1.0 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1.0
        (frozen,) = (
            one for one in study.get_trials(deepcopy=False) if one.number == settings.number
        )
        trial = optuna.trial.Trial(study, frozen._trial_id)
        return trial, set(frozen.intermediate_values)
