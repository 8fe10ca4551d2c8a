"""A search space in Hydra's own syntax: what varies, from where to where, and what is fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from clif_exp.sweeps.jobs import Job, as_override

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from optuna.distributions import BaseDistribution

_DIGITS = 5  # of a sampled number: enough for any setting, short enough for a folder's name
_EXAMPLES = (
    "write interval(1e-4,1e-2), tag(log,interval(1e-4,1e-2)), int(interval(1,8)), range(4,17,4) or"
    " choice(a,b)"
)


@dataclass(frozen=True)
class Space:
    """What a search varies.

    Attributes:
        constants: overrides that every trial has.
        distributions: key -> what its values are drawn from.
        stated: key -> the same in Hydra's syntax.
    """

    constants: tuple[str, ...]
    distributions: Mapping[str, BaseDistribution]
    stated: Mapping[str, str]

    def job(self, values: Mapping[str, Any]) -> Job:
        """Return the job of a trial.

        Args:
            values: key -> drawn value.
        """
        varying = tuple(f"{key}={self._written(key, values[key])}" for key in self.distributions)
        return Job((*self.constants, *varying), varying)

    def ends(self) -> tuple[Job, Job]:
        """Return the jobs of all first, and of all last values."""
        bounds = [_bounds(one) for one in self.distributions.values()]
        first, last = (
            dict(zip(self.distributions, side, strict=True)) for side in zip(*bounds, strict=True)
        )
        return self.job(first), self.job(last)

    def _written(self, key: str, value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        low, high = _bounds(self.distributions[key])
        return repr(min(max(float(f"{value:.{_DIGITS}g}"), low), high))


def read_space(
    params: Mapping[str, Any], arguments: Sequence[str], *, loader: ConfigLoader
) -> Space:
    """Read a search space.

    Args:
        params: key -> value, of the config.
        arguments: overrides of the command line, which replace those of the config.
        loader: Hydra's, for `glob`.

    Raises:
        ValueError: a malformed range, one that cannot be drawn from, or nothing varies.
    """
    parser = OverridesParser.create(config_loader=loader)
    found: dict[str, tuple[str, Override]] = {}
    for key, value in params.items():
        text = value if isinstance(value, str) else as_override(value)
        where = f"hydra.sweeper.params.{key}"
        try:
            found[key.lstrip("+")] = where, parser.parse_override(f"{key}={text}")
        except HydraException as error:
            said = " ".join(str(error).split())
            raise ValueError(f"{where}: found {text!r} ({said}); {_EXAMPLES}") from error
    for override in parser.parse_overrides(list(arguments)):
        key = override.get_key_element()
        found[key.lstrip("+")] = key, override
    constants, distributions, stated = [], {}, {}
    for where, override in found.values():
        key = override.get_key_element()
        text = "".join(str(override.input_line).partition("=")[2].split())
        if override.is_sweep_override():
            try:
                distributions[key] = _distribution(override)
            except ValueError as error:
                raise ValueError(f"{where}: found {text}; {error}") from error
            _refuse_unknown_choices(distributions[key], override, loader=loader)
            stated[key] = text
        else:
            constants.append(str(override.input_line))
    if not distributions:
        raise ValueError(
            "hydra.sweeper.params: found nothing to search; name ranges there or on the command"
            " line, as in 'diffusion.learning_rate=tag(log,interval(1e-4,1e-2))'"
        )
    return Space(tuple(constants), distributions, stated)


def _refuse_unknown_choices(
    distribution: BaseDistribution, override: Override, *, loader: ConfigLoader
) -> None:
    """Refuse a group's choice that no config file stands for, which no job could compose.

    Raises:
        ValueError: names it, and those that there are.
    """
    group = override.key_or_group
    known = loader.get_group_options(group)
    for choice in getattr(distribution, "choices", ()) if known else ():
        if choice not in (*known, "null"):
            raise ValueError(f"{group}: {choice!r} is no choice; there are: {', '.join(known)}")


def _distribution(override: Override) -> BaseDistribution:
    """Return what an override's values are drawn from."""
    from optuna.distributions import CategoricalDistribution

    value: Any = override.value()
    tags: set[str] = getattr(value, "tags", set())
    if tags - {"log"}:
        raise ValueError(f"the only tag is log, not {', '.join(sorted(tags - {'log'}))}")
    if isinstance(value, IntervalSweep):
        assert value.start is not None and value.end is not None
        return _numbers(value.start, value.end, step=None, log=bool(tags))
    if isinstance(value, RangeSweep):
        if not value.step:
            raise ValueError("its step is 0")
        values = sorted(value.range())
        if not values:
            raise ValueError(f"it is empty: it ends before {value.stop}")
        return _numbers(values[0], values[-1], step=abs(value.step), log=bool(tags))
    if tags:
        raise ValueError("log is for numbers; write tag(log,interval(LOW,HIGH))")
    choices = list(dict.fromkeys(override.sweep_string_iterator()))
    if not choices:
        raise ValueError("there is nothing to choose from")
    return CategoricalDistribution(choices)


def _numbers(low: float, high: float, *, step: float | None, log: bool) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("its ends must be finite")
    if low > high:
        raise ValueError(f"its lower end is above its upper end; {_EXAMPLES}")
    if log and low <= 0:
        raise ValueError(f"on a logarithmic scale its lower end must be above 0, not {low:g}")
    if log and step not in (None, 1):
        raise ValueError("on a logarithmic scale there is no step; use an interval")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, step=int(step or 1), log=log)
    return FloatDistribution(low, high, step=None if log else step, log=log)


def _bounds(distribution: Any) -> tuple[Any, Any]:
    """Return the first and the last value."""
    if (choices := getattr(distribution, "choices", None)) is not None:
        return choices[0], choices[-1]
    return distribution.low, distribution.high
