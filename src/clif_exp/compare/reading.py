"""Reads runs from their folders, from sweeps, and from files that `--save` has written."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clif_exp.compare.config_values import flat_settings
from clif_exp.compare.run import Run, RunImage, Scalar
from clif_exp.compare.saved import read_saved
from clif_exp.runs.directory import SUMMARY, sweep_of
from clif_exp.secrets import masked

log = logging.getLogger("clif_exp")

STATUSES = ("finished", "failed", "killed", "refused", "pruned")
_YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Keys of summary.json -> the setting that says the same, where there is no config.
_IN_SUMMARY = {
    "experiment": "name",
    "method": "method.name",
    "model": "model.family",
    "dataset": "dataset.name",
}


def read(paths: Sequence[Path]) -> list[Run]:
    """Read runs: each once, in the order of the paths, and below a path in that of their folders.

    What cannot be read of a run is told in one line of the log, and the rest of it is kept.

    Args:
        paths: folders of runs, of sweeps or above them, and files of `--save`.

    Raises:
        ValueError: a path does not exist or holds no run; names it and what would do.
    """
    runs: list[Run] = []
    seen: set[Path] = set()
    sweeps: dict[Path, dict[str, list[str]]] = {}
    for path in map(Path, paths):
        if path.is_file():
            runs += read_saved(path)
            continue
        if not path.is_dir():
            raise ValueError(f"{path}: does not exist; give a run's or a sweep's folder")
        folders = list(run_folders(path))
        if not folders:
            saved = path / "runs.json"
            raise ValueError(
                f"{path}: holds no run (no summary.json below it); give "
                + (
                    f"its file of runs, {saved}"
                    if saved.is_file()
                    else "a run's folder (runs/NAME/TIME), a sweep's (multirun/NAME), or a file of"
                    " --save"
                )
            )
        for folder in folders:
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                found = _read_run(folder, sweeps)
                runs += [] if found is None else [found]
    if not runs:
        raise ValueError(
            f"{', '.join(map(str, paths))}: no run of clif_exp; the lines above say what was found"
        )
    return runs


def run_folders(path: Path) -> Iterator[Path]:
    """Yield the runs' folders at or below a folder, sorted; ranks' own folders are none."""
    for folder, below, files in os.walk(path):
        if SUMMARY in files or ".hydra" in below:
            below.clear()
            yield Path(folder)
        else:
            below[:] = sorted(
                name
                for name in below
                if not name.startswith(".")
                and not re.fullmatch("[0-9a-f]{64}.*", name)  # artifacts
            )


def published(run: Run, artifact: str) -> Path | None:
    """Return the folder of what a run's stage published, if the store still has it.

    Args:
        run: read from its folder, not from a file of `--save`.
        artifact: as in summary.json's `stages`: "evaluation", "attention_stage1".
    """
    summary = _read_summary(run.folder) or {}
    return _artifact(run.folder, run.settings, summary.get("stages", {}), artifact)


def _read_run(folder: Path, sweeps: dict[Path, dict[str, list[str]]]) -> Run | None:
    """Read a run; None if another program has written its summary.json.

    Args:
        folder: the run's.
        sweeps: sweep -> job -> overrides, filled as it is needed.
    """
    summary = _read_summary(folder)
    if summary is None:
        return None
    settings = _read_settings(folder, summary)
    stages = {
        name: stage
        for name, stage in (summary["stages"] or {}).items()
        if isinstance(stage, Mapping)
    }
    sweep = sweep_of(folder)
    return Run(
        folder=folder,
        name=masked(_name(folder, sweep, sweeps)),
        sweep=sweep,
        status=str(summary["status"]),
        error=summary.get("error"),
        seed=summary["seed"] if isinstance(summary.get("seed"), int) else -1,
        settings=settings,
        metrics={
            name: None if value is None else float(value)
            for name, value in summary["metrics"].items()
            if value is None or isinstance(value, int | float)
        },
        seconds=_numbers(stages, "seconds"),
        reused=[name for name, stage in stages.items() if stage.get("reused")],
        provenance={key: str(text) for key, text in (summary.get("provenance") or {}).items()},
        curves=_read_curves(folder / "metrics.csv"),
        images=_read_images(_artifact(folder, settings, stages, "generation")),
        peak_memory_mb=_numbers(stages, "peak_memory_mb"),
        concepts=_read_concepts(_artifact(folder, settings, stages, "evaluation")),
        artifacts={
            name: stage["fingerprint"]
            for name, stage in stages.items()
            if isinstance(stage.get("fingerprint"), str)
        },
    )


def _read_summary(folder: Path) -> dict[str, Any] | None:
    """Return summary.json with `status`, `stages` and `metrics`, whatever it holds of them."""
    unknown: dict[str, Any] = {"status": "killed", "stages": {}, "metrics": {}}
    file = folder / SUMMARY
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        error = "no summary.json: the job never began"
    except (OSError, ValueError) as problem:
        error = f"summary.json cannot be read ({problem}): half-written?"
    else:
        if not isinstance(found, dict) or not isinstance(found.get("metrics"), dict):
            log.warning("%s: no summary of a clif_exp run; left out", file)
            return None
        if found.get("status") not in STATUSES:
            log.warning(
                "%s: status %r is unknown here (another version?); counted as not finished",
                file,
                found.get("status"),
            )
        return unknown | found
    log.warning("%s: %s; counted as not finished", folder, error)
    return unknown | {"error": error}


def _read_settings(folder: Path, summary: Mapping[str, Any]) -> dict[str, Scalar]:
    file = folder / ".hydra" / "config.yaml"
    try:
        config = yaml.load(file.read_text(encoding="utf-8"), _YAML)
    except (OSError, yaml.YAMLError) as problem:
        log.warning(
            "%s: cannot be read (%s); of the settings only what summary.json says is known",
            file,
            getattr(problem, "strerror", None) or "no YAML",
        )
        config = None
    if isinstance(config, dict):
        return flat_settings(config)
    known: dict[str, Scalar] = {
        setting: summary[key] for key, setting in _IN_SUMMARY.items() if key in summary
    }
    return known | ({"seed": summary["seed"]} if "seed" in summary else {})


def _name(folder: Path, sweep: Path | None, sweeps: dict[Path, dict[str, list[str]]]) -> str:
    """Name a run by what differs in its sweep, jobs that are not compared included."""
    outside = "/".join(folder.absolute().parts[-2:])
    if sweep is None:
        return outside
    if sweep not in sweeps:
        files = sorted(sweep.glob("*/.hydra/overrides.yaml"))
        sweeps[sweep] = {file.parents[1].name: _read_overrides(file) for file in files}
    jobs = sweeps[sweep]
    own = jobs.get(folder.name, [])
    varying = [text.lstrip("+~") for text in own if any(text not in job for job in jobs.values())]
    return " ".join(varying) or outside


def _read_overrides(file: Path) -> list[str]:
    try:
        lines = yaml.load(file.read_text(encoding="utf-8"), _YAML) or []
    except (OSError, yaml.YAMLError):
        return []
    return [str(line) for line in lines if not str(line).startswith("pruning.trial=")]


def _numbers(stages: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, float]:
    return {
        name: float(stage[key])
        for name, stage in stages.items()
        if isinstance(stage.get(key), int | float)
    }


def _read_curves(file: Path) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    if not file.is_file():
        return curves
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            stage, step = row.pop("stage", None), _number(row.pop("step", None))
            for column, text in row.items():
                value = _number(text)
                if stage is not None and step is not None and value is not None:
                    curves.setdefault(f"{stage}/{column}", []).append((int(step), value))
    return curves


def _number(text: Any) -> float | None:
    """Read a finite number; None where a killed run left half a line or an empty cell."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _artifact(
    folder: Path,
    settings: Mapping[str, Scalar],
    stages: Mapping[str, Mapping[str, Any]],
    stage: str,
) -> Path | None:
    """Find what a stage published, if the store still has it.

    A relative store lies where the job was started: mostly above the run's folder, also where both
    were moved.
    """
    root, fingerprint = settings.get("artifacts.root"), stages.get(stage, {}).get("fingerprint")
    if not isinstance(root, str) or not isinstance(fingerprint, str):
        return None
    below = Path(root) / stage / fingerprint
    places = [base / below for base in folder.absolute().parents]
    return next((place for place in places if place.is_dir()), None) or _where_started(
        folder, below
    )


def _where_started(folder: Path, below: Path) -> Path | None:
    file = folder / ".hydra" / "hydra.yaml"
    if below.is_absolute() or not file.is_file():
        return None
    try:
        place = Path(yaml.load(file.read_text(), _YAML)["hydra"]["runtime"]["cwd"]) / below
    except (KeyError, TypeError, yaml.YAMLError):
        return None
    return place if place.is_dir() else None


def _read_images(generation: Path | None) -> list[RunImage]:
    if generation is None:
        return []
    there = {file.name for file in (generation / "images").glob("*.png")}
    return [
        RunImage(generation / line["file"], line["prompt"], int(line["seed"]), line["kind"])
        for line in _lines(generation / "generations.jsonl")
        if Path(line["file"]).name in there
    ]


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _read_concepts(evaluation: Path | None) -> dict[str, dict[str, float]]:
    """Return concept -> attendance and confusion in images of several concepts (Fig. 9)."""
    file = None if evaluation is None else evaluation / "confusion_matrix.json"
    if file is None or not file.is_file():
        return {}
    judged = json.loads(file.read_text()).get("multi", {})
    found: dict[str, dict[str, float]] = {}
    for measure in ("attendance", "confusion"):
        for name, value in judged.get(measure, {}).items():
            found.setdefault(name, {})[measure] = value
    return found
