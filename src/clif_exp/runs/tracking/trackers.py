"""A run's trackers, together. Every run imports this: the libraries come only when asked for."""

from __future__ import annotations

import csv
import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from clif_exp.runs.settings import LoggerSettings
from clif_exp.runs.tracking.ledger import Ledger
from clif_exp.secrets import masked, without_secrets

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from clif_exp.runs.tracking.labels import Labels
    from clif_exp.runs.tracking.results import Results

log = logging.getLogger("clif_exp")


class Tracker(Protocol):
    """One tracker's run. What it raises costs that tracker, never the job."""

    title: str
    ledger: Ledger

    def point(self, curve: str, step: int, values: Mapping[str, float]) -> None: ...

    def image(self, curve: str | None, step: int | None, file: Path, *, name: str) -> None: ...

    def results(self, results: Results) -> None: ...

    def finish(self, code: int) -> bool: ...


class Trackers:
    """The trackers of one job; without any, every call does nothing.

    A tracker that fails, or does not answer in time, is left out from then on, with one warning.
    """

    def __init__(self, settings: LoggerSettings | None, *, folder: Path) -> None:
        """Remember what to open; nothing is opened before `start`.

        Args:
            settings: which trackers; None opens none (ranks above 0).
            folder: the job's folder.
        """
        self._settings, self._folder = settings, folder
        self._open: list[Tracker] = []
        self._shown: dict[str, str] = {}

    def __bool__(self) -> bool:
        """Whether anything is tracked."""
        return bool(self._open)

    def start(self, config: Mapping[str, Any], *, labels: Labels) -> None:
        """Open the trackers and send them the job's config, without secrets."""
        if self._settings is None:
            return
        given: dict[str, Any] = {
            "folder": self._folder,
            "labels": labels,
            "config": without_secrets(config),
        }
        if (wandb := self._settings.wandb) is not None:
            from clif_exp.runs.tracking.wandb_run import WandbTracker

            self._try_to_open("W&B", lambda: WandbTracker(wandb, **given))
        if (board := self._settings.tensorboard) is not None:
            from clif_exp.runs.tracking.tensorboard import TensorBoardTracker

            self._try_to_open("TensorBoard", lambda: TensorBoardTracker(board, **given))

    def loggers(self, curve: str, *, content: str) -> list[Logger]:
        """Return the Lightning loggers that show a training stage live.

        Args:
            curve: its name: "diffusion" for `diffusion/loss`.
            content: what it is of: the artifact's fingerprint.
        """
        if not self._open:
            return []
        from clif_exp.runs.tracking.curves import CurveLogger

        return [CurveLogger(self, curve=curve, content=content)]

    def point(self, curve: str, step: int, values: Mapping[str, Any], *, content: str) -> None:
        """Send a row of a curve to the trackers that have not got it yet."""
        known = {name: float(x) for name, x in values.items() if _is_number(x)}
        for tracker in tuple(self._open):
            if tracker.ledger.due(curve, step, content=content):
                self._ask(tracker, partial(tracker.point, curve, step, known))

    def image(self, curve: str, step: int, file: Path, *, name: str, content: str) -> None:
        """Send an image of a curve to the trackers that have not got it yet."""
        for tracker in tuple(self._open):
            if tracker.ledger.due(f"{curve}/{name}", step, content=content):
                self._ask(tracker, partial(tracker.image, curve, step, file, name=name))

    def show_stage(self, curve: str, artifact: Path, *, content: str) -> None:
        """Send what a finished training stage stored and was not sent live, as when it is reused.

        Args:
            curve: the stage's name; a further encoder's curve is `<stage>/<encoder>`.
            artifact: its folder; those of other stages hold no curve.
            content: its fingerprint.
        """
        if not self._open:
            return
        files = [artifact / "metrics.csv", *sorted(artifact.glob("*/metrics.csv"))]
        for file in files if files[0].is_file() else ():
            part = "" if file.parent == artifact else f"/{file.parent.name}"
            with open(file, newline="") as opened:
                for row in csv.DictReader(opened):
                    step = int(row.pop("step"))
                    self.point(f"{curve}{part}", step, row, content=content)
        for grid in sorted(artifact.glob("samples/step_*.png")):
            step = int(grid.stem.removeprefix("step_"))
            self.image(curve, step, grid, name="samples", content=content)

    def show_grids(self, folder: Path) -> None:
        """Send the grids in a folder that are new or have changed since they were last sent."""
        for file in sorted(folder.glob("*.png")) if self._open else ():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            if self._shown.get(file.stem) == digest:
                continue
            self._shown[file.stem] = digest
            name = f"samples/{file.stem}"
            for tracker in tuple(self._open):
                self._ask(tracker, partial(tracker.image, None, None, file, name=name))

    def show_results(self, results: Results) -> None:
        """Send what the job found and made."""
        for tracker in tuple(self._open):
            try:
                tracker.results(results)
            except Exception as error:  # its curves are sent, and it is still to be told the end
                _warn(tracker.title, error, then="Some of the run's results are not in it.")

    def finish(self, code: int) -> None:
        """Close the trackers; the exit code tells them how the job ended."""
        for tracker in self._open:
            self._close(tracker, code)
        self._open = []

    def _close(self, tracker: Tracker, code: int) -> None:
        try:
            complete = tracker.finish(code)
        except Exception as error:
            _warn(tracker.title, error, then="It may not show how the run ended.")
        else:
            if not complete:
                _warn(
                    tracker.title,
                    TimeoutError("not everything was sent in time"),
                    then=f"`wandb sync` sends the rest, which lies in {self._folder / 'wandb'}.",
                )

    def _try_to_open(self, title: str, make: Callable[[], Tracker]) -> None:
        try:
            self._open.append(make())
        except Exception as error:
            _warn(title, error)

    def _ask(self, tracker: Tracker, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._open.remove(tracker)
            _warn(tracker.title, error)
            self._close(tracker, 1)


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):  # an empty cell
        return False


def _warn(title: str, error: Exception, *, then: str = "The run goes on without it.") -> None:
    said = " ".join(str(error).split()) or type(error).__name__
    log.warning("%s: %s. %s", title, masked(said).rstrip("."), then)
