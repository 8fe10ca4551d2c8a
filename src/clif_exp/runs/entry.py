"""What Hydra calls for a job, and the resolvers that its config needs.

A launcher sends `run` to its workers by name: importing this module there registers the resolvers.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

FULL_ERROR = "HYDRA_FULL_ERROR"
_TRACEBACK = "CLIF_EXP_TRACEBACK"
exit_codes: list[int] = []  # of the jobs of this process; a sweep adds its own


def job_folder_name(overrides: str, *, identity: str | None = None) -> str:
    """Return a unique folder name of one job: 80 characters of its overrides, 8 hex digits.

    Args:
        overrides: those to be read in the name, separated by commas.
        identity: what the digits are of; None: the overrides.
    """
    readable = re.sub(
        r"[^\w.,=+-]", "_", re.sub(r"(?:^|(?<=,))\+*(?:[\w]+[./])*(?=\w+=)", "", overrides)
    )[:80]
    digest = hashlib.sha256((overrides if identity is None else identity).encode()).hexdigest()
    return f"{readable or 'job'}-{digest[:8]}"


def run_name(name: object) -> str:
    """Return `name` if it can name a folder; Hydra makes the folder before the config is checked.

    Raises:
        ValueError: it leads out of the parent folder, or is empty or too long.
    """
    from pydantic import TypeAdapter, ValidationError

    from clif_exp.settings import NAME_RULE, Name

    try:
        return TypeAdapter(Name).validate_python(name, strict=True)
    except ValidationError:
        raise ValueError(f"name: found {name!r}; {NAME_RULE}") from None


def wants_traceback() -> bool:
    """Tell whether the user asked for tracebacks by HYDRA_FULL_ERROR=1."""
    return os.environ.get(_TRACEBACK, "0") == "1"


def raise_errors() -> None:
    """Make Hydra raise its errors instead of printing several lines; remember the user's wish."""
    os.environ.setdefault(_TRACEBACK, "0" if os.environ.get(FULL_ERROR, "0") in ("0", "") else "1")
    os.environ[FULL_ERROR] = "1"


def run(composed: DictConfig) -> float | None:
    """Run one job; a sweep's job prints into its own folder.

    Returns:
        The metric named by `objective`.
    """
    from clif_exp.artifacts.store import process_rank
    from clif_exp.runs.job import run_job
    from clif_exp.runs.output import output_into

    if not wants_traceback():
        os.environ.pop(FULL_ERROR, None)
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if (rank := process_rank()) > 0:  # where Slurm has started the ranks
        folder = folder / f".rank_{rank}"
    with output_into(folder if hydra_config.mode == RunMode.MULTIRUN else None):
        code, objective = run_job(composed, traceback=wants_traceback())
    exit_codes.append(code)
    return objective


def gpus(accelerator: str, devices: int) -> int | None:
    """Return how many GPUs a job asks a scheduler for on each machine; None: none."""
    return devices if accelerator in ("gpu", "cuda") else None


# A launcher's config in conf/hydra/launcher bears the name by which its users know it, and is
# checked against the plugin's own, as it should be.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")
OmegaConf.register_new_resolver("clif_gpus", gpus, replace=True)
OmegaConf.register_new_resolver("clif_job_folder", job_folder_name, replace=True)
OmegaConf.register_new_resolver("clif_run_name", run_name, replace=True)
