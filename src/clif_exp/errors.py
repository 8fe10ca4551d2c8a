"""How a run can fail; without imports, so that reporting an error stays cheap."""


class Refused(ValueError):
    """The request cannot be met; raised before any work was done for it."""


class TimeBudgetExhausted(RuntimeError):
    """`trainer.max_time` ran out. A checkpoint is saved; the same command resumes from it."""


class RankFailed(RuntimeError):
    """Another rank of this run failed; the message says which one and what it reported."""
