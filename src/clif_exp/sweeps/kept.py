"""What a study has committed counts as finished: a sweep goes on with it on any machine.

A run of runs.json stands for a job if every artifact that the job would make has the fingerprint
that the run's had, and its settings are the job's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from clif_exp.compare.config_values import flat_settings
from clif_exp.compare.saved import FINGERPRINT_DIGITS, is_place, read_saved
from clif_exp.compare.writing import RUNS
from clif_exp.sweeps.jobs import Job

if TYPE_CHECKING:
    from clif_exp.compare.run import Run
    from clif_exp.sweeps.planning import Forecast
    from clif_exp.sweeps.settings import KeepSettings

# How something was computed; where that matters to the result, the fingerprints say so.
_MEANS = ("trainer", "num_workers")


def kept_runs(
    kept: KeepSettings | None,
    jobs: Sequence[Job],
    composed: Sequence[DictConfig],
    forecasts: Sequence[Forecast],
) -> dict[Job, Run]:
    """Return the jobs whose results the study's runs.json holds already.

    None where a figure is drawn from images or artifacts, which that file does not hold.

    Args:
        kept: what the study keeps, and where.
        jobs: of the sweep.
        composed: their configs, in the same order.
        forecasts: what they will make, in the same order.

    Raises:
        ValueError: runs.json is damaged, or of a later version.
    """
    file = None if kept is None else Path(kept.folder) / RUNS
    if kept is None or file is None or not file.is_file():
        return {}
    if not all(figure.from_saved for figure in kept.figures):
        return {}
    runs: dict[str, list[Run]] = {}
    for run in read_saved(file):
        if run.status == "finished" and (evaluated := run.artifacts.get("evaluation")):
            runs.setdefault(evaluated, []).append(run)
    found = {}
    for job, config, forecast in zip(jobs, composed, forecasts, strict=True):
        candidates = runs.get(forecast.stages.get("evaluation", "")[:FINGERPRINT_DIGITS], ())
        if candidates and not config.artifacts.reuse:
            continue
        for run in candidates:
            if _same_artifacts(run, forecast) and _same_settings(run, config):
                found[job] = run
    return found


def _same_artifacts(run: Run, forecast: Forecast) -> bool:
    wanted = {name: it[:FINGERPRINT_DIGITS] for name, it in forecast.stages.items()}
    return forecast.error is None and wanted.items() <= run.artifacts.items()


def _same_settings(run: Run, config: DictConfig) -> bool:
    """Tell whether what both state is the same: a setting may be younger than the run."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    stated: Mapping[str, Any] = flat_settings({k: v for k, v in plain.items() if k != "hydra"})
    return all(
        run.settings[key] == value
        for key, value in stated.items()
        if key in run.settings and not is_place(key) and key.split(".")[0] not in _MEANS
    )
