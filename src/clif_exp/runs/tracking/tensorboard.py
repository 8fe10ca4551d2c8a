"""A run's TensorBoard files, in its folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clif_exp.runs.settings import TensorBoardSettings
from clif_exp.runs.tracking.labels import Labels
from clif_exp.runs.tracking.ledger import Ledger
from clif_exp.runs.tracking.results import IMAGE_COLUMNS, Results

_FLUSH_SECONDS = 0.5  # what a kill can take from the files


class TensorBoardTracker:
    """One job's event files; every error is the caller's to handle.

    Attributes:
        title: for messages.
        ledger: what was written.
    """

    title = "TensorBoard"

    def __init__(
        self,
        settings: TensorBoardSettings,
        *,
        folder: Path,
        labels: Labels,
        config: Mapping[str, Any],
    ) -> None:
        """Open the files, and write the run's settings.

        Args:
            settings: of TensorBoard.
            folder: the job's.
            labels: what the run is called.
            config: the resolved config, without secrets.
        """
        from lightning.pytorch.loggers import TensorBoardLogger
        from torch.utils.tensorboard.summary import hparams

        from clif_exp.reporting.sections import HEADLINES

        self._logger = TensorBoardLogger(str(folder), name=settings.folder, version="")
        self.ledger = Ledger(folder / settings.folder / "clif_exp.json")
        self._writer: Any = self._logger.experiment
        self._flushed = time.monotonic()
        # As `add_hparams` does, which would make a second run of it, in a folder of its own.
        stated, started, self._ended = hparams(dict(_flat(config)), dict.fromkeys(HEADLINES, 0.0))
        for summary in (stated, started):
            self._writer.file_writer.add_summary(summary)
        about = {"name": labels.name, "group": labels.group, "tags": ", ".join(labels.tags)}
        self._writer.add_text("run", _markdown(["", ""], [list(item) for item in about.items()]))
        self._writer.flush()

    def point(self, curve: str, step: int, values: Mapping[str, float]) -> None:
        """Write a row of a curve."""
        for name, value in values.items():
            self._writer.add_scalar(f"{curve}/{name}", value, step)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def image(self, curve: str | None, step: int | None, file: Path, *, name: str) -> None:
        """Write an image, at a curve's step or at the run's end."""
        import numpy as np
        from PIL import Image

        with Image.open(file) as opened:
            pixels_HWC = np.asarray(opened.convert("RGB"))
        tag = f"{curve}/{name}" if curve else name
        self._writer.add_image(tag, pixels_HWC, step, dataformats="HWC")
        self._writer.flush()

    def results(self, results: Results) -> None:
        """Write metrics, matrices and the table of images."""
        from clif_exp.reporting.charts import confusion_figures

        measured = results.measured
        if results.objective is not None:
            measured["objective"] = results.objective
        for name, value in measured.items():
            self._writer.add_scalar(name, value)
        for kind, figure in confusion_figures(results.matrices).items():
            self._writer.add_figure(f"confusion_matrix/{kind}", figure)
        if results.images:
            rows = [[row.values[name] for name in IMAGE_COLUMNS] for row in results.images]
            self._writer.add_text("images", _markdown(IMAGE_COLUMNS, rows))
        if results.export is not None:
            facts = {**results.facts, "export": str(results.export)}
            self._writer.add_text("export", _markdown(["", ""], list(_flat(facts))))
        self._writer.flush()

    def finish(self, code: int) -> bool:
        """Close the files; always complete."""
        self._writer.add_text("ended", f"exit code {code}")
        # TensorBoard keeps the first end that it reads: a job that goes on in this folder may yet
        # succeed, so only success is one.
        if code == 0:
            self._writer.file_writer.add_summary(self._ended)
        self._logger.finalize("success" if code == 0 else "failed")
        self.ledger.close()
        return True


def _flat(config: Mapping[str, Any], before: str = "") -> Any:
    """Yield (dotted key, value) of a config; what TensorBoard has no type for becomes text."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            yield f"{before}{key}", value if plain else str(value)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write a Markdown table; None is an empty cell."""
    lines = [columns, ["---"] * len(columns), *rows]
    cells = ([_cell(value) for value in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("<", "&lt;")
