"""`python -m clif_exp`: compose the config, then run the job.

Nothing but Hydra is imported until a run starts, so that `--help`, `--cfg job` and shell completion
answer at once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import hydra

from clif_exp.errors import INTERRUPTED
from clif_exp.runs.entry import exit_codes, raise_errors, run, wants_traceback
from clif_exp.runs.messages import composition_error, config_folder, help_text
from clif_exp.secrets import masked, secret_setting

# Hydra's options that take a value as their next argument.
_VALUED = {"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"}
_VALUED |= {"--config-dir", "-cd", "--experimental-rerun", "--info", "-i"}


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


_run = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(run)


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
    if any(re.match(r"\+{0,2}method\.name=", argument) for argument in sys.argv[1:]):
        _refuse("method.name: it only says what the method is called; choose one: method=NAME")
    sys.argv[1:] = options_first(sys.argv[1:])
    raise_errors()  # which become one line below
    try:
        _run()
    except Exception as error:
        if wants_traceback():
            raise
        _refuse(composition_error(error))
    except KeyboardInterrupt:  # of a sweep; a job tells its own
        if wants_traceback():
            raise
        print("clif_exp: stopped; the same command goes on", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if any(exit_codes):
        sys.exit(next(code for code in exit_codes if code))


def _refuse(message: str) -> NoReturn:
    print(f"clif_exp: error: {masked(message)}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
