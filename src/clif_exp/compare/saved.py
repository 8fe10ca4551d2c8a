"""Runs in one small file that is committed: what `--save` writes, and reading it again.

What all runs share stands once, in front; each run adds what differs. Images and curves are left
out, and so is where things lay on that machine.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from clif_exp.artifacts.files import write_text
from clif_exp.compare.run import Run

_FORMAT = 1
_DIGITS = 12  # as many as the tests need to see which differences are equal
FINGERPRINT_DIGITS = 16  # of 64, enough that no two artifacts are taken for one another
PLACES = ("paths", "artifacts", "logger", "callbacks", "trainer.progress")
"""Settings, or groups of them, that say where results are put and shown."""


def write_saved(file: Path, runs: Sequence[Run]) -> None:
    """Write runs to a file; the same runs give the same bytes.

    Raises:
        OSError: it cannot be written; names the file and the remedy.
    """
    settings = [
        {key: value for key, value in run.settings.items() if not is_place(key)} for run in runs
    ]
    provenances = [_without_places(run.provenance) for run in runs]
    shared = {"settings": _shared(settings), "provenance": _shared(provenances)}
    described = [
        _describe(run, own, provenance, shared)
        for run, own, provenance in zip(runs, settings, provenances, strict=True)
    ]
    lines = [
        f'{{"clif_exp_runs": {_FORMAT},',
        f' "settings": {_block(shared["settings"])},',
        f' "provenance": {_block(shared["provenance"])},',
        ' "runs": [',
        ",\n".join(_run_text(run) for run in described),
        "]}",
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "\n".join(lines) + "\n")


def read_saved(file: Path) -> list[Run]:
    """Read the runs of a file that `write_saved` has written.

    Raises:
        ValueError: it is no such file, is damaged, or is of a later version.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        version = found["clif_exp_runs"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{file}: neither a folder nor a whole file of `python -m clif_exp.compare --save`;"
            " give a folder of runs, or make the file again"
        ) from None
    if version != _FORMAT:
        raise ValueError(
            f"{file}: format {version!r} of a later clif_exp; this one reads {_FORMAT}. Use the"
            " commit that the file names, or make the file again"
        )
    try:
        return [_restore(run, found["settings"], found["provenance"]) for run in found["runs"]]
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"{file}: a run lacks {problem}; make the file again") from None


def is_place(key: str) -> bool:
    """Return whether a setting only says where results are put and shown."""
    return any(key == place or key.startswith(f"{place}.") for place in PLACES)


def _without_places(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return it with a command that says nothing of the machine's folders."""
    if not (command := provenance.get("command")):
        return dict(provenance)
    kept = [
        word for word in shlex.split(command) if not is_place(word.lstrip("+").partition("=")[0])
    ]
    return {**provenance, "command": shlex.join(kept)}


def _shared(mappings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all mappings hold, types included: 1 is not true."""
    first, *others = mappings or [{}]
    return {
        key: value
        for key, value in first.items()
        if all(key in other and repr(other[key]) == repr(value) for other in others)
    }


def _describe(
    run: Run,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    shared: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    def own(values: Mapping[str, Any], part: str) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key not in shared[part]}

    by_group: dict[str, dict[str, float | None]] = {}
    for name, value in run.metrics.items():
        group, _, metric = name.rpartition("/")
        by_group.setdefault(group, {})[metric] = _rounded(value)
    return {
        "name": run.name,
        "folder": PurePath(*run.folder.parts[-2:]).as_posix(),
        "sweep": None if run.sweep is None else run.sweep.name,
        "status": run.status,
        "error": run.error,
        "seed": run.seed,
        "settings": own(settings, "settings"),
        "provenance": own(provenance, "provenance"),
        "seconds": {name: _rounded(value) for name, value in run.seconds.items()},
        "peak_memory_mb": {name: _rounded(value) for name, value in run.peak_memory_mb.items()},
        "reused": list(run.reused),
        "metrics": by_group,
        "concepts": {
            name: {measure: _rounded(value) for measure, value in measured.items()}
            for name, measured in run.concepts.items()
        },
        "artifacts": {name: it[:FINGERPRINT_DIGITS] for name, it in run.artifacts.items()},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _block(values: Mapping[str, Any], *, indent: str = "  ") -> str:
    """Write a mapping with an entry per line, whose value stays on it."""
    if not values:
        return "{}"
    entries = (f"{indent}{_text(key)}: {_text(value)}" for key, value in values.items())
    return "{\n" + ",\n".join(entries) + f"\n{indent[:-1]}}}"


def _run_text(run: Mapping[str, Any]) -> str:
    """Write a run with a line per field, and per group of metrics, setting and concept."""
    long = ("settings", "provenance", "metrics", "concepts")
    entries = [
        f"   {_text(key)}: {_block(value, indent='    ') if key in long else _text(value)}"
        for key, value in run.items()
    ]
    return "  {\n" + ",\n".join(entries) + "\n  }"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _restore(
    run: Mapping[str, Any], settings: Mapping[str, Any], provenance: Mapping[str, str]
) -> Run:
    return Run(
        folder=Path(run["folder"]),
        name=run["name"],
        sweep=None if run["sweep"] is None else Path(run["sweep"]),
        status=run["status"],
        error=run["error"],
        seed=run["seed"],
        settings={**settings, **run["settings"]},
        metrics={
            f"{group}/{name}" if group else name: value
            for group, values in run["metrics"].items()
            for name, value in values.items()
        },
        seconds=run["seconds"],
        reused=run["reused"],
        provenance={**provenance, **run["provenance"]},
        peak_memory_mb=run["peak_memory_mb"],
        concepts=run["concepts"],
        artifacts=run.get("artifacts", {}),  # files made before November 2026 have none
    )
