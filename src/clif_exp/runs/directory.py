"""A run's folder: summary.json, metrics.csv, and the files that the user takes away."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from clif_exp.artifacts.files import write_text
from clif_exp.artifacts.store import RECORD, Artifact

Status = Literal["finished", "pruned", "failed", "killed", "refused"]
SUMMARY = "summary.json"
UNFINISHED = "still running, or killed before it could say why (SIGKILL, power)"


class RunDirectory:
    """One run's folder and its summary.

    Attributes:
        path: the folder.
        summary: content of summary.json.
    """

    def __init__(
        self,
        path: Path,
        *,
        experiment: str,
        method: str,
        model: str,
        dataset: str,
        seed: int,
        provenance: Mapping[str, str],
    ) -> None:
        """Create the folder; until the run is closed its summary says that it was killed."""
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.summary: dict[str, Any] = {
            "experiment": experiment,
            "method": method,
            "model": model,
            "dataset": dataset,
            "seed": seed,
            "status": "killed",
            "stages": {},
            "metrics": {},
            "export": None,
            "report": None,
            "error": UNFINISHED,
            "provenance": dict(provenance),
        }
        self.write()

    def add_stage(self, name: str, artifact: Artifact) -> None:
        """Note a stage's artifact, and whether it was reused."""
        self.summary["stages"][name] = {
            "fingerprint": artifact.fingerprint,
            "reused": artifact.reused,
            "seconds": artifact.seconds,
            "peak_memory_mb": artifact.peak_memory_mb,
        }
        self.write()

    def add_stage_of(self, name: str, parts: Sequence[str]) -> None:
        """Note a stage that published several artifacts: their sum."""
        known = [self.summary["stages"][part] for part in parts if part in self.summary["stages"]]
        if known:
            self.summary["stages"][name] = {
                "fingerprint": (
                    hashlib.sha256(
                        "".join(part["fingerprint"] for part in known).encode()
                    ).hexdigest()
                ),
                "reused": all(part["reused"] for part in known),
                "seconds": round(sum(part["seconds"] for part in known), 3),
                "peak_memory_mb": max(part["peak_memory_mb"] for part in known),
            }
            self.write()

    def add_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Note metrics; what could not be measured (NaN) is null, because JSON has no NaN."""
        self.summary["metrics"] |= {name: _finite(value) for name, value in metrics.items()}
        self.write()

    def publish(self, name: str, source: Path) -> None:
        """Copy an artifact's files into the run's folder under `name`, all or none of them."""
        target, partial = self.path / name, self.path / f".{name}.partial"
        for old in (target, partial):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns(RECORD))
        os.replace(partial, target)
        self.note(name, target)

    def note(self, name: str, path: Path) -> None:
        """Note the path of something that the user takes away."""
        self.summary[name] = str(path.absolute())
        self.write()

    def close(self, status: Status, *, error: str | None = None) -> None:
        """Note how the run ended."""
        self.summary |= {"status": status, "error": error}
        self.write()

    def write(self) -> None:
        """Publish summary.json; a reader sees the old one or the new one."""
        write_text(self.path / SUMMARY, json.dumps(self.summary, indent=2) + "\n")

    def write_curves(self, curves: Mapping[str, Path]) -> None:
        """Join the training stages' metrics.csv into the run's, with a `stage` column in front."""
        rows, columns = [], ["stage", "step"]
        for stage, file in curves.items():
            if file.is_file():
                with open(file, newline="") as opened:
                    for row in csv.DictReader(opened):
                        rows.append({"stage": stage} | row)
                        columns += [name for name in row if name not in columns]
        with open(self.path / "metrics.csv", "w", newline="") as opened:
            writer = csv.DictWriter(opened, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def sweep_of(folder: Path) -> Path | None:
    """Return the folder of the sweep that a run is a job of, or None.

    Hydra's sweepers leave a file there; a job with a process of its own does not know of the sweep.
    """
    parent = folder.absolute().parent
    if (parent / "multirun.yaml").is_file():
        return parent
    own = folder / ".hydra" / "hydra.yaml"
    return parent if own.is_file() and "\n  mode: MULTIRUN\n" in own.read_text() else None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def quoted(text: Path | str) -> str:
    """Escape what stands in single quotes in Hydra's override grammar, such as a path."""
    return str(text).replace("\\", "\\\\").replace("'", "\\'")


def relative(path: Path) -> str:
    """Write a path relative to the current folder, unless that needs ".."."""
    short = os.path.relpath(path)
    return str(path) if short.startswith("..") else short
