"""How a run can fail; without imports, so that reporting an error stays cheap."""

REFUSED, FAILED, OUT_OF_TIME, INTERRUPTED, TERMINATED = 2, 1, 75, 130, 143
"""Exit codes: not started, an error, `trainer.max_time` ran out, Ctrl-C, SIGTERM."""


class Refused(ValueError):
    """The request cannot be met; raised before any work was done for it."""


class TimeBudgetExhausted(RuntimeError):
    """`trainer.max_time` ran out. A checkpoint is saved; the same command resumes from it."""


class RankFailed(RuntimeError):
    """Another rank of this run failed; the message says which one and what it reported."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of a job that an error ended."""
    if isinstance(error, SystemExit):  # SIGTERM, or Lightning after an interrupt
        return error.code if isinstance(error.code, int) and error.code else TERMINATED
    kinds = {Refused: REFUSED, TimeBudgetExhausted: OUT_OF_TIME, KeyboardInterrupt: INTERRUPTED}
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), FAILED)
