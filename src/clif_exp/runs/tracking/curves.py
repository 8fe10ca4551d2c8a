"""A Lightning logger that hands a stage's rows and sample grids to the run's trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch.loggers import Logger


class Receiver(Protocol):
    """What takes the rows and images of curves."""

    def point(self, curve: str, step: int, values: Mapping[str, Any], *, content: str) -> None: ...

    def image(self, curve: str, step: int, file: Path, *, name: str, content: str) -> None: ...


class CurveLogger(Logger):
    """One curve of a run, at its own steps; what was sent before a resume is not sent again."""

    def __init__(self, receiver: Receiver, *, curve: str, content: str) -> None:
        """Name the curve.

        Args:
            receiver: of what is logged.
            curve: its name: "diffusion" for `diffusion/loss`.
            content: what it is of: the artifact's fingerprint.
        """
        super().__init__()
        self._receiver, self._curve, self._content = receiver, curve, content

    @property
    def name(self) -> str:
        """The curve's name."""
        return self._curve

    @property
    def version(self) -> str:
        """None: the progress bar would show it."""
        return ""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Send a row."""
        assert step is not None, "a row has its stage's step"
        self._receiver.point(self._curve, step, metrics, content=self._content)

    def log_image(self, key: str, images: Sequence[str | Path], step: int) -> None:
        """Send image files."""
        for file in images:
            self._receiver.image(self._curve, step, Path(file), name=key, content=self._content)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing: the run's config was sent when it began."""
