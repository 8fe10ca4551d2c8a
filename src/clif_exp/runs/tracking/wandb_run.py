"""A run's W&B run, online or offline. Nothing here waits long for a network."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clif_exp.artifacts.locks import process_lock
from clif_exp.evaluation.metrics import METRICS
from clif_exp.runs.settings import WandbSettings
from clif_exp.runs.tracking.bounded import within
from clif_exp.runs.tracking.continuing import LEDGER, LOCK, take_over
from clif_exp.runs.tracking.labels import Labels
from clif_exp.runs.tracking.ledger import Ledger
from clif_exp.runs.tracking.results import IMAGE_COLUMNS, Results, Source
from clif_exp.runs.tracking.written import last_steps

# Shares of `max_delay`: for W&B's answer at the start, its uploads at the end, and its exit. What
# these leave is for artifacts.
_START, _END, _EXIT = 0.45, 0.3, 0.1
_MOST_IMAGES, _SIDE = 400, 256  # of the table of images
_LARGEST = 32 * 2**20  # bytes; a larger file of an export is referred to


class WandbTracker:
    """One job's W&B run; every error is the caller's to handle.

    Attributes:
        title: for messages.
        ledger: what it was sent.
    """

    title = "W&B"

    def __init__(
        self, settings: WandbSettings, *, folder: Path, labels: Labels, config: Mapping[str, Any]
    ) -> None:
        """Start the run, or continue the one that an unfinished job left (`continuing`).

        Args:
            settings: of W&B.
            folder: the job's.
            labels: what the run is called.
            config: the resolved config, without secrets.

        Raises:
            Exception: of many kinds, if W&B cannot be used.
        """
        os.environ.setdefault("WANDB_SILENT", "true")
        # W&B's reports on itself would hold up the end of a process without a network.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._wandb, self._online = wandb, settings.mode == "online"
        self._patience, began = settings.max_delay, time.monotonic()
        self._held = contextlib.ExitStack()
        take_over(folder)
        # A second job in this folder would share the run: it goes without.
        self._held.enter_context(process_lock(folder / LOCK, timeout=0.0))
        try:
            # An agent of a W&B sweep has made the run already.
            by_agent = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
            self.ledger = Ledger(folder / LEDGER, identity=by_agent)
            self._held.callback(self.ledger.close)
            part = self.ledger.part
            if part is not None and (steps := last_steps(Path(part))) is not None:
                self.ledger.correct(steps)
            self._run = wandb.init(
                id=self.ledger.identity,
                resume="allow",
                mode=settings.mode,
                project=settings.project,
                entity=settings.entity,
                group=settings.group or labels.group,
                job_type=labels.job_type,
                tags=list(dict.fromkeys([*settings.tags, *labels.tags])),
                name=labels.name,
                dir=str(folder),
                config=dict(config),
                reinit="create_new",
                settings=wandb.Settings(
                    init_timeout=_START * self._patience,
                    login_timeout=_START * self._patience,
                    finish_timeout=_END * self._patience,
                ),
            )
        except BaseException:
            self._leave()
            raise
        self.ledger.begin(Path(self._run.dir).parent)
        self._spent = time.monotonic() - began
        self._first_row = self._run.step
        self._curves: set[str] = set()

    def point(self, curve: str, step: int, values: Mapping[str, float]) -> None:
        """Send a row of a curve."""
        self._define(curve)
        self._log({f"{curve}/step": step} | {f"{curve}/{key}": x for key, x in values.items()})

    def image(self, curve: str | None, step: int | None, file: Path, *, name: str) -> None:
        """Send an image, at a curve's step or at the run's end."""
        image = self._wandb.Image(str(file))
        if curve is None:
            self._log({name: image})
            return
        self._define(curve)
        self._log({f"{curve}/step": step, f"{curve}/{name}": image})

    def results(self, results: Results) -> None:
        """Send metrics, tables, matrices, the curation page, and the export with its lineage."""
        from clif_exp.reporting.charts import confusion_figures

        measured = results.measured
        better = {metric.name: metric.better for metric in METRICS}
        for name in measured:
            if direction := better.get(name.rpartition("/")[2]):
                best = "max" if direction == "higher" else "min"
                self._run.define_metric(name, summary=best)
        content: dict[str, Any] = dict(measured)
        if measured:
            content["metrics"] = self._wandb.Table(
                columns=["metric", "value"], data=[list(item) for item in measured.items()]
            )
        for kind, figure in confusion_figures(results.matrices).items():
            content[f"confusion_matrix/{kind}"] = self._wandb.Image(figure)
        if results.images:
            content["images"] = self._image_table(results)
        if results.curation_page is not None:
            content["curation"] = self._wandb.Html(str(results.curation_page), inject=False)
        if results.objective is not None:
            # W&B's sweeps read plain numbers; the others' summaries hold their best.
            content["objective"] = results.objective
        if content:
            self._log(content)
        if results.export is not None:
            self._log_artifacts(results, export=results.export)

    def finish(self, code: int) -> bool:
        """End the run; return whether everything was sent."""
        ended = within((_END + _EXIT) * self._patience, lambda: self._run.finish(exit_code=code))
        self._leave()
        return ended

    def _leave(self) -> None:
        """Let go of the run's lock, and of W&B's process where it may wait for a network."""
        self._held.close()
        if self._online:
            with contextlib.suppress(Exception):
                within(_EXIT * self._patience, self._wandb.teardown)

    def _define(self, curve: str) -> None:
        """Give a curve steps of its own."""
        if curve in self._curves:
            return
        self._curves.add(curve)
        self._run.define_metric(f"{curve}/step", hidden=True)
        self._run.define_metric(f"{curve}/*", step_metric=f"{curve}/step")
        self._run.define_metric(
            f"{curve}/validation_loss", step_metric=f"{curve}/step", summary="min"
        )

    def _log(self, content: Mapping[str, Any]) -> None:
        # W&B drops rows that go back. Offline it does not know those of the job before.
        row = self.ledger.next_row(at_least=self._first_row)
        self._run.log(dict(content), step=row, commit=True)

    def _image_table(self, results: Results) -> Any:
        from PIL import Image

        table = self._wandb.Table(columns=["image", *IMAGE_COLUMNS])
        for row in results.images[:_MOST_IMAGES]:
            with Image.open(row.file) as opened:
                image = opened.convert("RGB")
            kind = "png" if max(image.size) <= _SIDE else "jpg"
            image.thumbnail((_SIDE, _SIDE))
            values = [row.values[name] for name in IMAGE_COLUMNS]
            table.add_data(self._wandb.Image(image, file_type=kind), *values)
        return table

    def _log_artifacts(self, results: Results, *, export: Path) -> None:
        """Log the export, and what it was made from as the run's inputs."""
        inputs = [self._input(source) for source in results.sources]
        model = self._wandb.Artifact(
            re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{results.facts['experiment']}-export"),
            type="model",
            metadata=dict(results.facts),
        )
        for file in sorted(export.rglob("*")):
            if file.is_file():
                self._add(model, file, name=str(file.relative_to(export)))

        def send() -> None:
            for artifact in inputs:
                # What `use_artifact` does, which refuses to work offline and waits for the upload.
                self._run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
            self._run.log_artifact(model)

        left = (1 - _END - 2 * _EXIT) * self._patience - self._spent
        if not within(max(left, _EXIT * self._patience), send):
            raise TimeoutError("the export's artifact was not taken in time")

    def _input(self, source: Source) -> Any:
        """Describe an artifact of the store by small files; its images stay where they are."""
        artifact = self._wandb.Artifact(
            source.name,
            type=source.kind,
            metadata={"fingerprint": source.fingerprint, "folder": str(source.folder)},
        )
        with artifact.new_file("fingerprint.txt") as file:
            file.write(source.fingerprint + "\n")
        for described in source.files:
            self._add(artifact, described, name=described.name)
        return artifact

    def _add(self, artifact: Any, file: Path, *, name: str) -> None:
        if file.stat().st_size <= _LARGEST:
            artifact.add_file(str(file), name=name)
        else:
            artifact.add_reference(file.resolve().as_uri(), name=name, checksum=False)
