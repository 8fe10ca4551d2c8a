"""A study that several processes work on: who runs which trial, and what has come out.

A trial is Optuna's record of one job. Its runner holds a lock beside the study's file, which the
system frees when the runner dies: a trial that is "running" with a free lock was killed, and
whoever finds it runs it again, in its folder and with its parameters.
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.utils import instantiate
from omegaconf import DictConfig

from clif_exp.artifacts.locks import process_lock
from clif_exp.runs.directory import relative
from clif_exp.runs.studies import open_storage
from clif_exp.sweeps.jobs import as_override, key_of
from clif_exp.sweeps.settings import SearchSettings
from clif_exp.sweeps.space import Space

if TYPE_CHECKING:
    import optuna
    from hydra.types import HydraContext
    from optuna.trial import FrozenTrial

_IDENTITY, _FOLDER, _STATUS = "clif_exp", "folder", "status"
# What a trial's result does not depend on.
_ELSEWHERE = {"artifacts", "callbacks", "logger", "num_workers", "paths", "pruning"}


@dataclass(frozen=True)
class Search:
    """A search that has been checked.

    Attributes:
        settings: how.
        space: of what.
        objective: the metric.
        direction: which end of it is better.
        folder: of its jobs.
        config: of the sweep, as Hydra composed it.
        context: of Hydra.
    """

    settings: SearchSettings
    space: Space
    objective: str
    direction: Literal["minimize", "maximize"]
    folder: Path
    config: DictConfig
    context: HydraContext


@dataclass(frozen=True)
class Claim:
    """A trial that this process runs.

    Attributes:
        number: of the trial.
        values: key -> drawn value.
        folder: name of its job's folder; None: it is new.
    """

    number: int
    values: Mapping[str, Any]
    folder: str | None


class SharedStudy:
    """Optuna's study of one search, as this process sees it.

    Attributes:
        study: Optuna's.
        location: its file, as jobs open it.
        left: numbers of the trials whose jobs were killed in this process's hands.
    """

    def __init__(self, search: Search) -> None:
        """Open the study of a search, whose folder exists, or create it.

        Raises:
            ValueError: the file holds something else, or another search.
        """
        self._settings, self._space = search.settings, search.space
        self.location, self._file = _place(search.settings.storage, folder=search.folder)
        self._name = search.settings.study_name or search.folder.name
        self._held: dict[int, contextlib.ExitStack] = {}
        self.left: set[int] = set()
        identity = {
            "objective": search.objective,
            "direction": search.direction,
            "space": dict(search.space.stated),
            "constants": sorted(
                one for one in search.space.constants if key_of(one).split(".")[0] not in _ELSEWHERE
            ),
        }
        with process_lock(self._lock("claim")):
            self.study = self._open(identity)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials, in order."""
        return self.study.get_trials(deepcopy=False)

    def unfinished(self) -> list[int]:
        """Return the numbers of the trials without an end."""
        return [trial.number for trial in self.trials() if not trial.state.is_finished()]

    def claim(self) -> Claim | None:
        """Take a trial that nobody runs: one that was killed, else a new one.

        Returns:
            None if there are as many as were asked for.
        """
        with process_lock(self._lock("claim")):
            trials = self.trials()
            for trial in trials:
                mine = trial.number in self._held or trial.number in self.left
                if trial.state.is_finished() or mine or not self._hold(trial.number):
                    continue
                # Whoever held it may have ended it since it was read.
                if trial.number not in self.unfinished():
                    self._held.pop(trial.number).close()
                else:
                    return Claim(trial.number, trial.params, trial.user_attrs.get(_FOLDER))
            if len(trials) >= self._settings.n_trials:
                return None
            self.study.sampler = _sampler(self._settings.sampler, number=len(trials))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # what is experimental in Optuna
                    new = self.study.ask(fixed_distributions=dict(self._space.distributions))
            except ImportError as error:
                raise ValueError(
                    f"hydra.sweeper.sampler: {' '.join(str(error).split())}"
                ) from error
            taken = self._hold(new.number)
            assert taken, "nobody can know a trial that was just made"
            return Claim(new.number, new.params, None)

    def note_folder(self, number: int, name: str) -> None:
        """Remember where a trial's job writes, before it starts."""
        self._set(number, _FOLDER, name)

    def tell(self, number: int, summary: Mapping[str, Any], *, objective: str) -> None:
        """Tell the study how a trial's job has ended, and give the trial back.

        A killed job's trial stays unfinished: the same command resumes it.

        Args:
            number: of the trial.
            summary: its job's summary.json; empty if there is none.
            objective: the metric.
        """
        from optuna.trial import TrialState

        status = summary.get("status", "failed")
        value = summary.get("metrics", {}).get(objective)
        if status == "killed":
            self.left.add(number)
        else:
            self._set(number, _STATUS, status)
            if status == "finished" and value is not None and math.isfinite(value):
                self.study.tell(number, float(value))
            else:
                state = TrialState.PRUNED if status == "pruned" else TrialState.FAIL
                self.study.tell(number, state=state)
        self._held.pop(number).close()

    def overrides(self, number: int) -> tuple[str, ...]:
        """Return what tells a job which trial it is, so that it can be pruned."""
        settings = {
            "storage": self.location,
            "study": self._name,
            "number": number,
            "pruner": self._settings.pruner,
        }
        return (f"pruning.trial={as_override(settings)}",)

    def _set(self, number: int, key: str, value: Any) -> None:
        (trial,) = (one for one in self.trials() if one.number == number)
        self.study._storage.set_trial_user_attr(trial._trial_id, key, value)

    def _lock(self, name: str | int) -> Path:
        return self._file.with_name(f".{self._file.name}.locks") / f"{self._name}-{name}"

    def _hold(self, number: int) -> bool:
        """Hold a trial until it is given back or this process ends; tell whether it was free."""
        held = contextlib.ExitStack()
        try:
            held.enter_context(process_lock(self._lock(number), timeout=0.0))
        except TimeoutError:
            return False
        self._held[number] = held
        return True

    def _open(self, identity: Mapping[str, Any]) -> optuna.Study:
        import optuna

        shown = relative(self._file)
        remedy = "give this search a file of its own, by hydra.sweeper.storage=FILE or name=NAME"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        refuse_other_files(self._file, sqlite=self.location.startswith("sqlite:"), remedy=remedy)
        try:
            storage = open_storage(self.location)
            known = [one.study_name for one in optuna.get_all_study_summaries(storage)]
        except Exception as error:
            said = " ".join(str(error).split())
            raise ValueError(
                f"hydra.sweeper.storage: {shown} holds no study ({said}); {remedy}"
            ) from error
        if known and self._name not in known:
            raise ValueError(
                f"hydra.sweeper.storage: {shown} holds the study {', '.join(known)}, not"
                f" {self._name}; continue it by hydra.sweeper.study_name={known[0]}, or {remedy}"
            )
        if not known:
            optuna.create_study(
                storage=storage, study_name=self._name, direction=identity["direction"]
            )
        study = optuna.load_study(
            storage=storage,
            study_name=self._name,
            pruner=_build(self._settings.pruner, "pruner"),
            sampler=_sampler(self._settings.sampler, number=0),
        )
        if _IDENTITY not in study.user_attrs and not study.get_trials(deepcopy=False):
            study.set_user_attr(_IDENTITY, dict(identity))
        _require_same(study, identity, shown=shown, remedy=remedy)
        return study


def refuse_other_files(file: Path, *, sqlite: bool, remedy: str) -> None:
    """Refuse a file that is no storage, which Optuna would write into or fail on later.

    Raises:
        ValueError: says what it is not.
    """
    if not file.exists() or (file.is_file() and file.stat().st_size == 0):
        return
    with contextlib.suppress(OSError, ValueError, TypeError), file.open("rb") as opened:
        if sqlite and opened.read(16) == b"SQLite format 3\x00":
            return
        if not sqlite and "op_code" in json.loads(opened.readline()):
            return
    kind = "SQLite database" if sqlite else "journal of Optuna"
    raise ValueError(f"hydra.sweeper.storage: {relative(file)} is no {kind}; {remedy}")


def _place(storage: str | None, *, folder: Path) -> tuple[str, Path]:
    """Return a study's storage as jobs open it, from whatever folder, and its file."""
    if storage is not None and storage.startswith("sqlite:///"):
        file = Path(storage.removeprefix("sqlite:///")).absolute()
        return f"sqlite:///{file}", file
    file = (folder / "study.journal" if storage is None else Path(storage)).absolute()
    return str(file), file


def _require_same(
    study: optuna.Study, identity: Mapping[str, Any], *, shown: str, remedy: str
) -> None:
    """Refuse a study of another search.

    Raises:
        ValueError: says what differs.
    """
    known = study.user_attrs.get(_IDENTITY)
    if known is None:
        raise ValueError(
            f"hydra.sweeper.storage: the study {study.study_name} in {shown} was not made by this"
            f" program; {remedy}"
        )
    for part, title in (
        ("objective", "objective"),
        ("direction", "hydra.sweeper.direction"),
        ("space", "hydra.sweeper.params"),
        ("constants", "overrides"),
    ):
        if known[part] != identity[part]:
            raise ValueError(
                f"{title}: found {_shown(identity[part])}, but the study {study.study_name} in"
                f" {shown} has {_shown(known[part])}; {remedy}"
            )


def _shown(part: str | Mapping[str, str] | Sequence[str]) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        return " ".join(f"{key}={value}" for key, value in part.items())
    return " ".join(part) or "none"


def _sampler(settings: Mapping[str, Any], *, number: int) -> Any:
    seed = settings.get("seed")
    # Searches of neighbouring seeds have no trial in common.
    own = {} if seed is None else {"seed": (int(seed) * 1_000_003 + number) % 2**32}
    return _build({**settings, **own}, "sampler")


def _build(settings: Mapping[str, Any], name: str) -> Any:
    """Build a sampler or pruner.

    Raises:
        ValueError: there is none of that name, or it does not take these arguments.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is experimental in Optuna
        try:
            return instantiate(dict(settings))
        except Exception as error:
            said = " ".join(str(error.__cause__ or error).split())
            raise ValueError(f"hydra.sweeper.{name}: found {dict(settings)}; {said}") from error
