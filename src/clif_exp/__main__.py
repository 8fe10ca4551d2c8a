"""`python -m clif_exp`: compose the config, then run the job.

Nothing but Hydra is imported until a run starts, so that `--help`, `--cfg job` and shell completion
answer at once.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import hydra
from omegaconf import DictConfig, OmegaConf

from clif_exp.runs.messages import composition_error, config_folder, help_text
from clif_exp.secrets import masked, secret_setting

_FULL_ERROR = "HYDRA_FULL_ERROR"
_wants_traceback = os.environ.get(_FULL_ERROR, "0") not in ("0", "")
_exit_codes: list[int] = []
# Hydra's options that take a value as their next argument.
_VALUED = {"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"}
_VALUED |= {"--config-dir", "-cd", "--experimental-rerun", "--info", "-i"}


def sweep_folder_name(overrides: str) -> str:
    """Return a unique folder name of one job: 80 characters of its overrides, 8 hex digits."""
    readable = re.sub(
        r"[^\w.,=+-]", "_", re.sub(r"(?:^|(?<=,))\+*(?:[\w]+[./])*(?=\w+=)", "", overrides)
    )[:80]
    return f"{readable or 'job'}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"


def sweep_name(name: object) -> str:
    """Return the `name` of a sweep's first job, so that all its jobs share a folder."""
    return os.environ.setdefault("CLIF_EXP_SWEEP_NAME", run_name(name))


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


def options_first(arguments: Sequence[str]) -> list[str]:
    """Put options before overrides: argparse takes no overrides on both sides of an option."""
    options: list[str] = []
    overrides: list[str] = []
    value_follows = False
    for argument in arguments:
        is_override = re.match(r"~|\+{0,2}[\w@./]+=", argument) and not value_follows
        (overrides if is_override else options).append(argument)
        value_follows = argument in _VALUED
    return options + overrides


OmegaConf.register_new_resolver("clif_sweep_folder", sweep_folder_name, replace=True)
OmegaConf.register_new_resolver("clif_sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("clif_run_name", run_name, replace=True)


@hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")
def _run(composed: DictConfig) -> float | None:
    if not _wants_traceback:
        os.environ.pop(_FULL_ERROR, None)
    from clif_exp.runs.job import run_job

    code, objective = run_job(composed, traceback=_wants_traceback)
    _exit_codes.append(code)
    return objective


def main() -> None:
    """Run the command line; errors are one line and an exit code, unless HYDRA_FULL_ERROR=1."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text())
        return
    if (key := secret_setting(sys.argv[1:])) is not None:
        _refuse(
            f"{key}: found a secret, which a command line shows to other users and keeps in the"
            " shell's history; export it (WANDB_API_KEY, OPENAI_API_KEY, OPENAI_BASE_URL, HF_TOKEN)"
        )
    sys.argv[1:] = options_first(sys.argv[1:])
    # Makes Hydra raise its errors, which become one line below, instead of printing several.
    os.environ[_FULL_ERROR] = "1"
    try:
        _run()
    except Exception as error:
        if _wants_traceback:
            raise
        _refuse(composition_error(error))
    if any(_exit_codes):
        sys.exit(next(code for code in _exit_codes if code))


def _refuse(message: str) -> NoReturn:
    print(f"clif_exp: error: {masked(message)}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
