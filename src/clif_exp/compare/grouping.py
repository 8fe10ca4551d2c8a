"""Which runs are the same but for cast and seed, and which are pairs of each other."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from clif_exp.compare.run import Run, Scalar, differing, whole
from clif_exp.compare.saved import is_place

CAST_SEED = "dataset.cast_seed"
CAST = {CAST_SEED: "cast", "dataset.root": "set"}
"""The settings that say which concepts are customised, and what a table calls them."""
REPLICATES = (CAST_SEED, "seed")
"""The settings over which a mean is taken: runs that differ in nothing else form a group."""
_CHANGE_NO_RESULT = (
    "num_workers",
    "trainer.num_workers",
    "trainer.max_time",
    "objective",
    "stages",
)
_MAKE_NO_PAIR_UNLIKE = (
    "name",  # says which study a run is of
    "trainer.accelerator",
    "trainer.strategy",
    "trainer.checkpoint_every_n_steps",
)
METHOD = "method.name"
_FIRST = (METHOD, "name")  # what names a group best
_TITLES = {"name": "experiment"}
_COMMIT = "commit"
_WORDS = {"true", "false", "null"}

Unit = tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Runs that are the same but for what tells their units apart.

    Attributes:
        label: the settings that tell it from the other groups: "method=clif, diffusion.rank=16".
        runs: unit -> the run that finished.
        unfinished: those that failed, were refused or killed, or are still running.
    """

    label: str
    runs: Mapping[Unit, Run]
    unfinished: Sequence[Run]


@dataclass(frozen=True)
class Grouping:
    """All groups.

    Attributes:
        groups: in the order of their labels, numbers by their size.
        by: the settings that their labels name.
        unit: the settings that are equal in a pair of runs of two groups.
        repeated: runs left out because a newer one has the same settings.
    """

    groups: Sequence[Group]
    by: Sequence[str]
    unit: Sequence[str]
    repeated: Sequence[Run]

    @property
    def casts(self) -> bool:
        """Whether means are over casts rather than over runs."""
        return several_casts(self.groups)

    def units(self, group: Group) -> int:
        """Return how many independent values the runs of a group give."""
        return len(over_casts(dict.fromkeys(group.runs, 0.0), casts=self.casts))


def setting(run: Run, key: str) -> Scalar:
    """Return a run's setting, or the commit that made it; None if it has none."""
    return run.provenance.get(_COMMIT) if key == _COMMIT else run.settings.get(key)


def full_key(name: str, runs: Sequence[Run], *, option: str) -> str:
    """Return the setting that a user means: `method` is method.name, `experiment` is name.

    Raises:
        ValueError: no run has it; names the option and what comes near.
    """
    known = {key for run in runs for key in run.settings} | {_COMMIT}
    short = {title: key for key, title in _TITLES.items()}
    for key in (name, short.get(name, ""), *(f"{name}.{leaf}" for leaf in ("name", "family"))):
        if key in known:
            return key
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    remedy = f"did you mean {', '.join(near)}?" if near else "use a key of the config"
    raise ValueError(f"{option}: no run has a setting {name!r}; {remedy}")


def select(runs: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    """Return the runs that meet all conditions.

    Args:
        runs: all.
        conditions: `key=value` or `key=value,value`; a list's own commas stand in brackets.

    Raises:
        ValueError: a condition has no such form, names no setting, or nothing is left.
    """
    for condition in conditions:
        name, equals, text = condition.partition("=")
        if not equals:
            raise ValueError(f"--where: found {condition!r}; write key=value, as diffusion.rank=16")
        key = full_key(name, runs, option="--where")
        wanted = {_comparable(value) for value in re.split(r",(?![^\[]*\])", text)}
        kept = [run for run in runs if _comparable(setting(run, key)) in wanted]
        if not kept:
            there = sorted({_shown(setting(run, key)) for run in runs})
            raise ValueError(
                f"--where: no run has {name}={text}; there are {', '.join(there[:20])}"
            )
        runs = kept
    return list(runs)


def group(runs: Sequence[Run], by: Sequence[str] = (), *, option: str = "--group-by") -> Grouping:
    """Group runs that differ in cast and seed only, or by chosen settings.

    Settings outside a group's own that vary within some group (cast, seed, or a swept one) are what
    its runs are told apart by: runs of two groups that are equal in them are a pair. What a choice
    of method brings with it is constant within each group and keeps no pair apart.

    Args:
        runs: all.
        by: names of settings; none: all in which the runs differ and that can change a result.
        option: what an error calls `by`.

    Raises:
        ValueError: no run has a setting of `by`.
    """
    varying = [key for key in differing(runs) if not is_place(key) and key not in _CHANGE_NO_RESULT]
    replicates = [key for key in REPLICATES if len({_shown(setting(r, key)) for r in runs}) > 1]
    keys = [full_key(name, runs, option=option) for name in by]
    defining = list(dict.fromkeys(keys)) or [key for key in varying if key not in replicates]
    members: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        members.setdefault(tuple(_shown(setting(run, key)) for key in defining), []).append(run)
    unit = [
        key
        for key in dict.fromkeys([*replicates, *varying])
        if key not in defining
        and key not in _MAKE_NO_PAIR_UNLIKE
        and (
            key in replicates  # also where each group has one seed only: then no two are a pair
            or any(len({_shown(setting(r, key)) for r in some}) > 1 for some in members.values())
        )
    ]
    named = list(keys) or _naming_keys(defining, runs, len(members))
    groups: list[Group] = []
    repeated: list[Run] = []
    for some in members.values():
        found, older = _by_unit(some, unit)
        repeated += older
        label = ", ".join(f"{title(key)}={_shown(setting(some[0], key))}" for key in named)
        groups.append(
            Group(
                label=label or "all runs",
                runs={u: run for u, run in found.items() if run.status == "finished"},
                unfinished=[run for run in found.values() if run.status != "finished"],
            )
        )
    return Grouping(sorted(groups, key=_by_number), named, unit, repeated)


def several_casts(groups: Sequence[Group]) -> bool:
    """Tell whether some group has runs of several casts, so that casts are what means are over."""
    return any(len(set(map(cast_of, group.runs))) > 1 for group in groups)


def over_casts(values: Mapping[Unit, float], *, casts: bool) -> list[float]:
    """Return the independent values among those of runs: what means and tests are taken over.

    Runs of one cast are alike whatever their seed, because they draw the same characters: as units
    of a test they would find differences that are none. So the mean of a cast's runs is one value.

    Args:
        values: of runs.
        casts: whether casts are what varies (`several_casts`); else each run's value is one.
    """
    if not casts:
        return list(values.values())
    by_cast: dict[str, list[float]] = {}
    for unit, value in values.items():
        by_cast.setdefault(cast_of(unit), []).append(value)
    return [fmean(of_cast) for of_cast in by_cast.values()]


def cast_of(unit: Unit) -> str:
    """Return the part of a unit that names its cast or set; "" where all have the same."""
    return " ".join(part for part in unit if part.partition("=")[0] in CAST)


def concept_titles(groups: Sequence[Group]) -> Callable[[Run, str], str]:
    """Return what names a run's concept: with its cast where there are several (same names)."""
    runs = [run for of in groups for run in of.runs.values()]
    telling = [key for key in CAST if len({_shown(setting(run, key)) for run in runs}) > 1]
    return lambda run, name: "".join(
        [*(f"{CAST[key]} {_shown(setting(run, key))}: " for key in telling), name]
    )


def find_group(grouping: Grouping, name: str, *, option: str = "--baseline") -> Group:
    """Return the group that a user means: by its label, its values, or a part of it.

    Raises:
        ValueError: none or several; lists the groups.
    """
    labels = {group.label: group for group in grouping.groups}
    if name in labels:
        return labels[name]
    wanted = sorted(part.strip() for part in name.split(","))
    matches = [group for label, group in labels.items() if wanted in _ways_to_call(label)] or [
        group for label, group in labels.items() if name in label
    ]
    if len(matches) == 1:
        return matches[0]
    found = "no group" if not matches else f"{len(matches)} groups"
    raise ValueError(f"{option}: {found} called {name!r}; there are: {'; '.join(labels)}")


def _ways_to_call(label: str) -> tuple[list[str], list[str]]:
    return sorted(label.split(", ")), sorted(label_values(label))


def label_values(label: str) -> list[str]:
    """Return the values in a group's label, without the names of their settings."""
    return [part.partition("=")[2] or part for part in label.split(", ")]


def short_label(label: str) -> str:
    """Return a group's label without the names of its settings, as figures show it."""
    return ", ".join(label_values(label))


def title(key: str) -> str:
    """Name a setting as a command line would: method.name is `method`, name is `experiment`."""
    return _TITLES.get(key) or re.sub(r"(?<=.)\.(name|family)$", "", key)


def _naming_keys(defining: Sequence[str], runs: Sequence[Run], groups: int) -> list[str]:
    """Return the fewest settings, greedily, that tell all groups apart.

    First come method and experiment, then what a sweep's command line varied.
    """
    swept = {part.partition("=")[0] for run in runs if run.sweep for part in run.name.split()}
    order = sorted(
        defining, key=lambda key: (key not in _FIRST, key not in swept and title(key) not in swept)
    )

    def told_apart(keys: Sequence[str]) -> int:
        return len({tuple(_shown(setting(run, key)) for key in keys) for run in runs})

    chosen: list[str] = []
    for key in order:
        if told_apart([*chosen, key]) > told_apart(chosen):
            chosen.append(key)
        if told_apart(chosen) == groups:
            break
    for key in list(chosen):
        rest = [other for other in chosen if other != key]
        if rest and told_apart(rest) == groups:
            chosen = rest
    return chosen


def _by_number(group: Group) -> list[tuple[float, str]]:
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", group.label)
    return [(float(part), "") if i % 2 else (0.0, part) for i, part in enumerate(parts)]


def _by_unit(runs: Sequence[Run], unit: Sequence[str]) -> tuple[dict[Unit, Run], list[Run]]:
    """Return one run per unit, finished ones first and then the newest; and the others.

    Units are sorted, so that a bootstrap draws the same whatever order runs are read in.
    """
    found: dict[Unit, Run] = {}
    older: list[Run] = []
    for run in runs:
        key = tuple(f"{title(name)}={_shown(setting(run, name))}" for name in unit)
        if key not in found:
            found[key] = run
            continue
        kept, left = sorted((found[key], run), key=_age, reverse=True)
        found[key] = kept
        older.append(left)
    return dict(sorted(found.items())), older


def _age(run: Run) -> tuple[bool, str, str]:
    return run.status == "finished", run.provenance.get("started", ""), run.folder.name


def _shown(value: Scalar) -> str:
    """Write a setting as YAML does: null, true, 16, 0.001."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(whole(value))


def _comparable(value: Scalar) -> str:
    """Return a value so that 16 and 16.0, 1e-3 and 0.001, `[0,1]` and `[0, 1]` are equal."""
    text = _shown(value)
    try:
        return str(float(text))
    except ValueError:
        words = {"~": "null", "": "null", "none": "null"}
        short = re.sub(r"[\s'\"]", "", text)
        return words.get(short.lower(), short.lower() if short.lower() in _WORDS else short)
