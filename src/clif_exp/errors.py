"""How a run can end other than well; light, so that whoever reports an error can import it."""


class Refused(ValueError):
    """The request cannot be met; raised before any work was done for it."""


class TimeBudgetExhausted(RuntimeError):
    """`trainer.max_time` ran out. A checkpoint is saved; the same command resumes from it."""


class RankFailed(RuntimeError):
    """Another rank of this run failed; says which, and what it reported."""
