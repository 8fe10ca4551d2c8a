"""The comparison: each group's mean of each measure, and its difference from a baseline."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from clif_exp.compare import measures
from clif_exp.compare.grouping import (
    CAST,
    REPLICATES,
    Group,
    Grouping,
    Unit,
    find_group,
    group,
    over_casts,
    setting,
    title,
)
from clif_exp.compare.run import Run
from clif_exp.compare.statistics import (
    FEW,
    Difference,
    Mean,
    compare_paired,
    mean_of,
    smallest_p,
)

_DIGITS = 9  # so that what is equal is found equal, whatever it was rounded to on the way
Key = tuple[str, str]  # group's label, measure


@dataclass(frozen=True)
class Comparison:
    """Groups of runs side by side.

    Attributes:
        grouping: the groups, and what makes a pair.
        measures: metrics and costs, in the order of columns.
        means: (group, measure) -> over its runs.
        baseline: label of the group that the others are compared with, or None.
        differences: (group, measure) -> from the baseline, for the other groups.
    """

    grouping: Grouping
    measures: Sequence[str]
    means: Mapping[Key, Mean]
    baseline: str | None
    differences: Mapping[Key, Difference]

    def best(self, measure: str) -> set[str]:
        """Return the labels of the groups with the best mean; none where all are alike."""
        direction = measures.better(measure)
        known = {
            group.label: round(mean, _DIGITS)
            for group in self.grouping.groups
            if (mean := self.means[group.label, measure].mean) is not None
        }
        if direction is None or len(set(known.values())) < 2:
            return set()
        top = (max if direction == "higher" else min)(known.values())
        return {label for label, mean in known.items() if mean == top}


def compare(
    runs: Sequence[Run],
    *,
    by: Sequence[str] = (),
    metrics: Sequence[str] = (),
    baseline: str | None = None,
) -> Comparison:
    """Compare groups of runs.

    Args:
        runs: what is left after `select`.
        by: settings to group by; none: all that differ but cast and seed.
        metrics: what to compare by, see `measures.choose`.
        baseline: the group that the others are compared with, see `grouping.find_group`.

    Raises:
        ValueError: an unknown setting, metric or group.
    """
    chosen = measures.choose(runs, metrics)
    grouping = group(runs, by)
    casts = grouping.casts
    means = {
        (found.label, measure): mean_of(over_casts(values, casts=casts), runs=len(values))
        for found in grouping.groups
        for measure in chosen
        for values in [_values(found, measure)]
    }
    against = None if baseline is None else find_group(grouping, baseline)
    if against is None:
        return Comparison(grouping, chosen, means, None, {})
    ordered = [against, *(group for group in grouping.groups if group is not against)]
    return Comparison(
        replace(grouping, groups=ordered),
        chosen,
        means,
        against.label,
        _differences(grouping, chosen, against),
    )


def _values(group: Group, measure: str) -> dict[Unit, float]:
    found = {unit: measures.value(run, measure) for unit, run in group.runs.items()}
    return {unit: value for unit, value in found.items() if value is not None}


def _differences(
    grouping: Grouping, chosen: Sequence[str], against: Group
) -> dict[Key, Difference]:
    others = [group for group in grouping.groups if group is not against]
    casts = grouping.casts
    found: dict[Key, Difference] = {}
    for measure in chosen:
        base = _values(against, measure)
        pairs = []
        for other in others:
            own = _values(other, measure)
            by_unit = {unit: own[unit] - base[unit] for unit in base if unit in own}
            independent = over_casts(by_unit, casts=casts)
            pairs.append([round(difference, _DIGITS) for difference in independent])
        for other, difference in zip(others, compare_paired(pairs), strict=True):
            found[other.label, measure] = difference
    return found


def notes(comparison: Comparison) -> list[str]:
    """Say in sentences what the numbers are, and what is missing of them."""
    grouping = comparison.grouping
    unit = " and ".join(map(title, grouping.unit)) or "nothing else"
    runs = [len(group.runs) for group in grouping.groups]
    several = max(runs, default=0) > 1
    said = (
        [_about_means(grouping, unit=unit)]
        if several
        else ["One run in each group: no intervals, and no differences that a test could support."]
    )
    if len(set(runs)) > 1:
        said.append("Groups have different numbers of runs: their means are of unequal samples.")
    said += _about_differences(comparison, unit=unit, several=several) + _about_concepts(grouping)
    commits = {run.provenance.get("commit", "") for g in grouping.groups for run in g.runs.values()}
    if len(commits - {""}) > 1:
        said.append(
            f"Runs of {len(commits - {''})} commits: {', '.join(sorted(commits - {''}))};"
            " --group-by commit keeps them apart."
        )
    if grouping.repeated:
        said.append(
            f"Left out: {len(grouping.repeated)} with the same settings as another run (one that"
            " finished counts, and of these the newest)."
        )
    said += [
        f"{run.status}: {run.name} ({_first_line(run.error)})"
        for group in grouping.groups
        for run in group.unfinished
    ]
    return said


def _about_concepts(grouping: Grouping) -> list[str]:
    """Say if groups have no concepts in common, so that they are compared with what they draw."""
    said = []
    for key in CAST:
        drawn = [{setting(run, key) for run in group.runs.values()} for group in grouping.groups]
        if any(not one & other for one, other in itertools.combinations(filter(None, drawn), 2)):
            said.append(
                f"Some groups are of different concepts ({key}): a difference between them is also"
                " one between these."
            )
    return said


def _about_means(grouping: Grouping, *, unit: str) -> str:
    fewest = min(map(grouping.units, grouping.groups))
    sample = "cast" if grouping.casts else "run"
    said = f"Means over {sample}s"
    if not grouping.casts:
        said += f" that differ in {unit}"
    elif others := [title(key) for key in grouping.unit if key not in {*REPLICATES, *CAST}]:
        said += f", each over runs that differ in {' and '.join(others)}"
    elif any(len(group.runs) > grouping.units(group) for group in grouping.groups):
        said += " (seeds of one cast are alike, so they are averaged first)"
    said += ", with the 95 % bootstrap interval (BCa) of the mean."
    if fewest < 2:
        said += f" Of one {sample} there is none."
    if fewest < FEW:
        said += f" From fewer than {FEW} {sample}s intervals are too narrow."
    return said


def _about_differences(comparison: Comparison, *, unit: str, several: bool) -> list[str]:
    found = comparison.differences.values()
    if not found:
        return []
    pairs = {difference.pairs for difference in found}
    if pairs == {0}:
        base, *rest = comparison.grouping.groups
        if any(base.runs.keys() & other.runs.keys() for other in rest):
            return [f"No metric was measured by a run of {base.label} and by its partner."]
        return [
            f"No run of {comparison.baseline} has a partner: no run of another group is equal to it"
            f" in {unit}."
        ]
    tested = Counter(key[1] for key, it in comparison.differences.items() if it.p is not None)
    others = max(tested.values(), default=1)
    if not several:
        return []
    fewer = " (fewer where a group lacks it)" if len(set(tested.values())) > 1 else ""
    corrected = (
        f"; Holm: p, corrected for the {others} comparisons of each metric{fewer}"
        if others > 1
        else ""
    )
    averaged = " and averaged over each cast" if comparison.grouping.casts else ""
    said = [
        f"Differences from {comparison.baseline}, paired by equal {unit}{averaged}. p: Wilcoxon's"
        f" signed-rank test, two-sided{corrected}. r: matched-pairs rank biserial correlation."
        " Detectable: the smallest difference that as many pairs with this spread show with a"
        f" probability of 0.8 (paired t-test at {'0.05' if others == 1 else f'0.05/{others}'})."
    ]
    few = max(pairs)
    if smallest_p(few) * others > 0.05:
        said.append(
            f"{few} pairs cannot reach p < 0.05{' after correction' * (others > 1)}: the smallest"
            f" possible p is {smallest_p(few):.2g}."
        )
    return said


def _first_line(error: str | None) -> str:
    lines = (error or "no reason given").splitlines()
    return lines[0] if len(lines[0]) <= 160 else lines[0][:157] + "..."
