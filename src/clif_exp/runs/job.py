"""One job, from its composed config to its exit code."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import traceback as traceback_module
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clif_exp.artifacts.provenance import describe_run
from clif_exp.artifacts.store import process_rank
from clif_exp.errors import (
    FAILED,
    INTERRUPTED,
    OUT_OF_TIME,
    REFUSED,
    TERMINATED,
    Pruned,
    RankFailed,
    Refused,
    TimeBudgetExhausted,
)
from clif_exp.runs.composing import given_overrides
from clif_exp.runs.config import validate
from clif_exp.runs.directory import SUMMARY, RunDirectory, quoted, relative
from clif_exp.runs.messages import DISK_ERRORS
from clif_exp.runs.preparation import check_devices
from clif_exp.runs.ranks import PARENT, all_ranks, follow_parent
from clif_exp.secrets import HIDDEN, masked, secrets_in

log = logging.getLogger("clif_exp")


class Terminated(SystemExit):
    """SIGTERM was received: unwind, note it in summary.json, and exit."""


def run_job(composed: DictConfig, *, traceback: bool) -> tuple[int, float | None]:
    """Run one job in its folder.

    Args:
        composed: the whole config, as Hydra composed it.
        traceback: re-raise errors instead of reporting them in one line.

    Returns:
        The exit code (0: finished), and the metric named by `objective` (NaN if it could not be
        measured, None without an objective).
    """
    # Importing the libraries creates half a million objects that stay: collecting garbage at every
    # 700 new ones would cost a second.
    gc.set_threshold(10_000, 10, 10)
    # A progress bar for every file that a library opens would drown the stages' messages.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Nor a line for every request of the hub's client.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # A run.log that cannot be written (a full disk) must not fill the terminal with tracebacks.
    logging.raiseExceptions = False
    hydra_config = HydraConfig.get()
    path = Path(hydra_config.runtime.output_dir)
    # Ranks above 0 share the stages' work; the run's folder is rank 0's.
    folder = path if process_rank() == 0 else path / f".rank_{process_rank()}"
    raw = OmegaConf.to_container(composed, resolve=False)
    _hide_secrets(path / str(hydra_config.output_subdir), secrets_in(raw))
    run = RunDirectory(
        folder,
        **_identity(raw, dict(hydra_config.runtime.choices)),
        provenance=describe_run(given_overrides(hydra_config)["task"]),
    )
    signal.signal(signal.SIGTERM, _terminate)
    follow_parent()
    try:
        try:
            config = validate(_resolve(composed))
            check_devices(config.trainer)
        except ValueError as error:
            return _refused(run, error, traceback=traceback)
        if hydra_config.mode == RunMode.MULTIRUN and config.trainer.devices > 1:
            return _run_as_process(given_overrides(hydra_config), path, config.objective)
        with all_ranks(config.trainer.devices, folder=path):
            from clif_exp.runs import pipeline

            try:
                plan = pipeline.prepare(config)
            except (ValueError, FileNotFoundError) as error:
                return _refused(run, error, traceback=traceback)
            pipeline.execute(plan, run=run, config_yaml=OmegaConf.to_yaml(composed, resolve=True))
        run.close("finished")
        return 0, run.summary["metrics"].get(config.objective) if config.objective else None
    except Pruned as stop:
        run.close("pruned", error=str(stop))
        log.info("%s", stop)
        return 0, float("nan")
    except Exception as error:
        return _failed(run, error, traceback=traceback), float("nan")
    except KeyboardInterrupt:
        _close(run, "killed", "interrupted (Ctrl-C); the same command resumes it", INTERRUPTED)
        sys.exit(INTERRUPTED)
    except SystemExit as stop:  # SIGTERM, or Lightning after an interrupt
        _close(run, "killed", "terminated; the same command resumes it", TERMINATED)
        sys.exit(stop.code or TERMINATED)


def _hide_secrets(folder: Path, secrets: Sequence[str]) -> None:
    """Hide what the user's own config files state as secrets in the copies that Hydra has made.

    The command line's are refused before Hydra starts.
    """
    for file in folder.glob("*.yaml") if secrets else ():
        text = file.read_text()
        for secret in secrets:
            text = text.replace(secret, HIDDEN)
        file.write_text(text)


def _identity(raw: Any, choices: dict[str, str]) -> dict[str, Any]:
    """Return how summary.json identifies a run, even one whose config is refused."""
    seed = raw.get("seed")
    name = (
        raw.get("name")
        if isinstance(raw.get("name"), str)
        else str(choices.get("experiment", "default"))
    )
    return {
        "experiment": name,
        "method": str(choices.get("method")),
        "model": str(choices.get("model")),
        "dataset": str((raw.get("dataset") or {}).get("name")),  # several choices are of one kind
        "seed": seed if isinstance(seed, int) else -1,
    }


def _resolve(composed: DictConfig) -> dict[str, Any]:
    """Return plain values; a missing one is refused with its key."""
    try:
        return OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "config"
        if "Missing mandatory value" in str(error):
            raise ValueError(f"{key}: a value is needed; give it as {key}=VALUE") from error
        raise ValueError(f"{key}: {str(error).splitlines()[0]}") from error


def _run_as_process(
    given: Mapping[str, list[str]], path: Path, objective: str | None
) -> tuple[int, float | None]:
    """Run a sweep's distributed job in a process of its own, which ends with this one.

    Its other ranks repeat their rank 0's command line, which here would be the whole sweep.
    """
    places = [it for it in given["hydra"] if it.lstrip("+").startswith("hydra.searchpath=")]
    if (folder := _own_configs()) is not None:
        places = ["--config-dir", folder, *places]
    own = [*places, *given["task"], "hydra.mode=RUN", f"hydra.run.dir='{quoted(path)}'"]
    command = [sys.executable, "-m", "clif_exp", *own]
    environment = os.environ | {PARENT: str(os.getpid())}
    code = subprocess.run(command, check=False, env=environment).returncode
    if code < 0:
        os.kill(os.getpid(), -code)  # the sweep notes what has ended a job's process
    metrics = json.loads((path / SUMMARY).read_text())["metrics"]
    return code, metrics.get(objective, float("nan")) if objective else None


def _own_configs() -> str | None:
    """Return the folder of a user's own configs that `--config-dir` has named."""
    sources = HydraConfig.get().runtime.config_sources
    return next((it.path for it in sources if it.provider == "command-line"), None)


def _refused(run: RunDirectory, error: Exception, *, traceback: bool) -> tuple[int, float]:
    if traceback:
        raise error
    return _close(run, "refused", str(error), REFUSED), float("nan")


def _failed(run: RunDirectory, error: Exception, *, traceback: bool) -> int:
    if isinstance(error, TimeBudgetExhausted):
        return _close(run, "killed", f"{error} The same command resumes it.", OUT_OF_TIME)
    trace = masked("".join(traceback_module.format_exception(error)))
    with contextlib.suppress(OSError), open(run.path / "run.log", "a") as file:
        file.write(trace)
    if isinstance(error, Refused) and not traceback:
        return _close(run, "refused", str(error), REFUSED)
    named = isinstance(error, ValueError | RankFailed)
    text = str(error) if named else f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        text += ". Free some space, or choose other folders by paths.root=FOLDER"
    code = _close(run, "failed", text, FAILED)
    if traceback:
        raise error
    return code


def _close(run: RunDirectory, status: Any, error: str, code: int) -> int:
    # A refusal may list several problems, one a line; anything else becomes one line.
    line = masked(error if status == "refused" else " ".join(error.split()))
    with contextlib.suppress(OSError):  # its disk may be full: the line below still says why
        run.close(status, error=line)
    print(f"clif_exp: {'error' if status != 'killed' else 'stopped'}: {line}", file=sys.stderr)
    if status == "failed":
        print(f"clif_exp: the traceback is in {relative(run.path / 'run.log')}", file=sys.stderr)
    return code


def _terminate(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated(TERMINATED)
