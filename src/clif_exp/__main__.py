"""`python -m clif_exp`: compose the config, then run the job.

Nothing but Hydra is imported until a run starts, so that `--help`, `--cfg job` and shell completion
answer at once.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys

import hydra
from omegaconf import DictConfig, OmegaConf

from clif_exp.runs.messages import composition_error, config_folder, help_text

_FULL_ERROR = "HYDRA_FULL_ERROR"
_wants_traceback = os.environ.get(_FULL_ERROR, "0") not in ("0", "")
_exit_codes: list[int] = []


def sweep_folder_name(overrides: str) -> str:
    """Return a unique folder name of one job: 80 characters of its overrides, 8 hex digits."""
    readable = re.sub(
        r"[^\w.,=+-]", "_", re.sub(r"(?:^|(?<=,))\+*(?:[\w]+[./])*(?=\w+=)", "", overrides)
    )[:80]
    return f"{readable or 'job'}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"


def sweep_name(name: str) -> str:
    """Return the `name` of a sweep's first job, so that all its jobs share a folder."""
    return os.environ.setdefault("CLIF_EXP_SWEEP_NAME", name)


OmegaConf.register_new_resolver("clif_sweep_folder", sweep_folder_name, replace=True)
OmegaConf.register_new_resolver("clif_sweep_name", sweep_name, replace=True)


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
    # Makes Hydra raise its errors, which become one line below, instead of printing several.
    os.environ[_FULL_ERROR] = "1"
    try:
        _run()
    except Exception as error:
        if _wants_traceback:
            raise
        print(f"clif_exp: error: {composition_error(error)}", file=sys.stderr)
        sys.exit(2)
    if any(_exit_codes):
        sys.exit(next(code for code in _exit_codes if code))


if __name__ == "__main__":
    main()
