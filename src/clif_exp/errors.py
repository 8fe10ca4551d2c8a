"""How a run can fail; without heavy imports, so that reporting an error stays cheap."""

from __future__ import annotations

import sys

REFUSED, FAILED, OUT_OF_TIME, INTERRUPTED, TERMINATED = 2, 1, 75, 130, 143
"""Exit codes: not started, an error, `trainer.max_time` ran out, Ctrl-C, SIGTERM."""


class Refused(ValueError):
    """The request cannot be met; raised before any work was done for it."""


class TimeBudgetExhausted(RuntimeError):
    """`trainer.max_time` ran out. A checkpoint is saved; the same command resumes from it."""


class RankFailed(RuntimeError):
    """Another rank of this run failed; the message says which one and what it reported."""


class Pruned(RuntimeError):
    """A search has stopped this run, which does worse than others at the same step."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of a job that an error ended."""
    if isinstance(error, SystemExit):  # SIGTERM, or Lightning after an interrupt
        return error.code if isinstance(error.code, int) and error.code else TERMINATED
    kinds = {
        Pruned: 0,
        Refused: REFUSED,
        TimeBudgetExhausted: OUT_OF_TIME,
        KeyboardInterrupt: INTERRUPTED,
    }
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), FAILED)


def report(error: Exception, *, memory: str) -> int:
    """Print a command's error in one line; what is no user's and no machine's is raised again.

    Args:
        error: what ended the command.
        memory: what to do where memory ran out, a sentence.

    Returns:
        The exit code: 2 for what the user can change, else 1.
    """
    text = " ".join(str(error).split())
    if isinstance(error, RuntimeError):
        if "out of memory" not in text.lower():
            raise error
        text = f"out of memory. {memory}"
    print(f"error: {text}", file=sys.stderr)
    return 2 if isinstance(error, ValueError) else 1
