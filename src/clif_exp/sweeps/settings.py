"""Settings of sweeps and searches, conf/hydra/sweeper/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from clif_exp.settings import Positive, Strict, Word
from clif_exp.studies.settings import FigureSettings

if TYPE_CHECKING:
    from omegaconf import DictConfig


class KeepSettings(Strict):
    """What a study keeps of its sweep, to be committed: runs.json, tables and figures.

    Attributes:
        folder: where, from the folder in which the command is started.
        group_by: settings that make a group; none: all that differ but cast and seed.
        metrics: what groups are compared by, as in summary.json; none: what a comparison shows.
        baseline: the group that the others are compared with.
        figures: what is drawn beside the tables, each kind once.
        reuse: folders of other studies whose committed runs stand for this one's jobs, too.
    """

    folder: Word
    group_by: list[Word]
    metrics: list[Word]
    baseline: Word | None
    figures: list[FigureSettings]
    reuse: list[Word] = Field(default_factory=list)

    @model_validator(mode="after")
    def _each_kind_once(self) -> Self:
        kinds = [figure.kind for figure in self.figures]
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"figures: found {twice[0]} twice, which would be one file; keep one")
        return self


class SearchSettings(Strict):
    """How Optuna searches.

    Attributes:
        sampler: Optuna's, as `_target_` and its arguments; from its `seed` every trial gets one of
            its own, so that neither a resumed search nor a second process draws a trial twice.
        pruner: Optuna's, in the same way; it acts where `pruning.metric` is set.
        storage: the study's file: a journal, or a `sqlite:///` URL; None: study.journal in the
            search's folder.
        study_name: None: the folder's name.
        direction: of the objective; None: the metric's own.
        n_trials: trials in all, whoever runs them and however they end.
        workers: jobs at once; "auto": as many as the GPUs serve, 1 without GPUs.
        params: key -> range or list of values in Hydra's syntax, or a constant.
    """

    sampler: dict[str, Any]
    pruner: dict[str, Any]
    storage: Word | None
    study_name: Word | None
    direction: Literal["minimize", "maximize"] | None
    n_trials: Positive
    workers: Positive | Literal["auto"]

    def jobs_at_once(self, config: DictConfig) -> int:
        """Return `workers` as a number, given the sweep's config."""
        from clif_exp.sweeps.gpus import workers_for

        return workers_for(config) if self.workers == "auto" else self.workers

    params: dict[str, Any]

    @model_validator(mode="after")
    def _parts_of_optuna(self) -> Self:
        for name, part, example in (
            ("sampler", self.sampler, "optuna.samplers.TPESampler"),
            ("pruner", self.pruner, "optuna.pruners.MedianPruner"),
        ):
            if not isinstance(part.get("_target_"), str):
                raise ValueError(f"{name}: found {part!r}; name a class, as in _target_: {example}")
        if "://" in (self.storage or "") and not str(self.storage).startswith("sqlite:///"):
            raise ValueError(
                f"storage: found {self.storage!r}; give a file (a journal), or sqlite:///FILE"
            )
        return self
