"""What a comparison knows of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class RunImage:
    """One image that a run drew for the evaluation.

    Attributes:
        file: PNG in the artifact store.
        prompt: the prompt's text, with concepts as `<name>`.
        seed: of the sampling.
        part: the prompt set that the metrics call it by: "single", "multi", "prior", ...
    """

    file: Path
    prompt: str
    seed: int
    part: str


@dataclass(frozen=True)
class Run:
    """One run, as it is compared with others.

    Attributes:
        folder: its folder.
        name: the settings in which it differs from the other runs of its sweep, as overrides;
            outside a sweep the folder's last two parts.
        sweep: the sweep's folder, or None.
        status: "finished", "failed", "killed", "refused" or "pruned".
        error: why it did not finish.
        seed: of the training.
        settings: the resolved config, flat: "diffusion.rank" -> 16. Lists are written as YAML.
        metrics: as in summary.json; None: could not be measured.
        seconds: stage -> seconds, what was reused included.
        reused: stages that were not computed by this run.
        provenance: command, commit, hardware, versions, started, each as text.
        curves: "<stage>/<column>" -> (step, value) in order.
        images: those that the store still has.
        peak_memory_mb: stage -> its largest memory.
        concepts: concept -> "attendance" and "confusion" in images of several concepts.
        artifacts: artifact -> its fingerprint; of a file of `--save` the first 16 digits.
    """

    folder: Path
    name: str
    sweep: Path | None
    status: str
    error: str | None
    seed: int
    settings: Mapping[str, Scalar]
    metrics: Mapping[str, float | None]
    seconds: Mapping[str, float] = field(default_factory=dict)
    reused: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    images: Sequence[RunImage] = ()
    peak_memory_mb: Mapping[str, float] = field(default_factory=dict)
    concepts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the settings in which runs differ, in the config's order; without the seed's.

    A run that lacks a setting is older than it, and does not differ in it.
    """
    found: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.settings.items():
            found.setdefault(key, set()).add(repr(whole(value)))
    return [key for key, values in found.items() if key != "seed" and len(values) > 1]


def whole(value: Scalar) -> Scalar:
    """Return 1 for 1.0: a config may write either, and both make the same run."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
