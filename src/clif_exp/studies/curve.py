"""Metrics against a setting that a study sweeps, such as the length of training, by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clif_exp.compare.grouping import Group, Unit, full_key, over_casts, setting, several_casts
from clif_exp.compare.measures import value
from clif_exp.compare.run import Run
from clif_exp.compare.statistics import compare_paired, mean_of
from clif_exp.compare.table import MISSING, as_p, between, head
from clif_exp.reporting import plots

_WIDTH, _HEIGHT = 2.6, 2.8  # of a panel, inches
_LOGARITHMIC = 4  # ratio of the largest to the smallest value from which the axis is


def collect(groups: Sequence[Group], *, key: str, metrics: Sequence[str]) -> dict[str, Any]:
    """Gather metrics by group and by value of a setting.

    Args:
        groups: of runs, of which each holds several values of the setting.
        key: the setting, a number.
        metrics: as in summary.json.

    Returns:
        `setting`; `metrics`: metric -> group -> a list of {"at", "mean", "interval", "runs"} in the
        order of `at`, the setting's value; `differences`: metric -> group but for the first one ->
        a list of {"at", "mean", "interval", "pairs", "p", "holm"}, this group minus the first one.

    Raises:
        ValueError: no run has the setting, it is no number, or no run has measured a metric.
    """
    key = full_key(
        key, [run for of in groups for run in of.runs.values()], option="hydra.sweeper.keep.figures"
    )
    by_value = {of.label: _by_value(of, key) for of in groups}
    casts = several_casts(groups)
    found: dict[str, Any] = {"setting": key, "metrics": {}, "differences": {}}
    for metric in metrics:
        measured = {
            label: {at: _measured(runs, metric) for at, runs in of.items()}
            for label, of in by_value.items()
        }
        if not any(values for of in measured.values() for values in of.values()):
            raise ValueError(
                f"hydra.sweeper.keep.figures: no run has measured {metric!r}; name a metric of"
                " summary.json"
            )
        found["metrics"][metric] = {
            label: [
                {"at": at, "mean": mean.mean, "interval": mean.interval, "runs": mean.runs}
                for at, values in of.items()
                if values and (mean := mean_of(over_casts(values, casts=casts), runs=len(values)))
            ]
            for label, of in measured.items()
        }
        found["differences"][metric] = _differences(measured, casts=casts)
    return found


def _by_value(group: Group, key: str) -> dict[float, dict[Unit, Run]]:
    """Sort a group's runs by the setting's value."""
    found: dict[float, dict[Unit, Run]] = {}
    for unit, run in group.runs.items():
        at = setting(run, key)
        if isinstance(at, bool) or not isinstance(at, int | float):
            raise ValueError(
                f"hydra.sweeper.keep.figures: {key} is {at!r} in {group.label}; a curve needs a"
                " number in each run"
            )
        found.setdefault(at, {})[unit] = run
    return dict(sorted(found.items()))


def _measured(runs: Mapping[Unit, Run], metric: str) -> dict[Unit, float]:
    return {
        unit: number for unit, run in runs.items() if (number := value(run, metric)) is not None
    }


def _differences(
    measured: Mapping[str, Mapping[float, Mapping[Unit, float]]], *, casts: bool
) -> dict[str, list[dict[str, Any]]]:
    """Compare each group with the first one at each value; Holm's correction is over all these."""
    (_, first), *others = measured.items()
    places, differences = [], []
    for label, of in others:
        for at, values in of.items():
            base = first.get(at, {})
            places.append((label, at))
            common = {unit: values[unit] - base[unit] for unit in values if unit in base}
            differences.append(over_casts(common, casts=casts))
    found: dict[str, list[dict[str, Any]]] = {label: [] for label, _ in others}
    for (label, at), difference in zip(places, compare_paired(differences), strict=True):
        if difference.pairs:
            found[label].append(
                {
                    "at": at,
                    "mean": difference.mean,
                    "interval": difference.interval,
                    "pairs": difference.pairs,
                    "p": difference.p,
                    "holm": difference.holm,
                }
            )
    return found


def draw(found: Mapping[str, Any], file: Path) -> None:
    """Draw a panel for each metric, and in it a line for each group with its intervals."""
    metrics = found["metrics"]
    figure, axes = plots.new_figure(
        _WIDTH * len(metrics) + 0.4, _HEIGHT, panels=len(metrics), one_scale=False
    )
    axes = axes if len(metrics) > 1 else [axes]
    colours = (plots.ACCENT, plots.SECOND, plots.THIRD, plots.GREY)
    for axis, (metric, of_groups) in zip(axes, metrics.items(), strict=True):
        ticks = sorted({point["at"] for points in of_groups.values() for point in points})
        for place, (label, points) in enumerate(of_groups.items()):
            if not points:  # the group has not measured this metric
                continue
            colour = colours[place % len(colours)]
            at, means = ([point[name] for point in points] for name in ("at", "mean"))
            axis.plot(at, means, color=colour, marker="o", markersize=4, label=label)
            low, high = zip(
                *(point["interval"] or (point["mean"],) * 2 for point in points), strict=True
            )
            axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        if ticks[0] > 0 and ticks[-1] / ticks[0] >= _LOGARITHMIC:
            axis.set_xscale("log")
            axis.minorticks_off()
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set(title=head(metric), xlabel=found["setting"].rpartition(".")[2].replace("_", " "))
    axes[0].legend(frameon=False)
    file.write_text(plots.svg(figure))


def caption(found: Mapping[str, Any]) -> str:
    """Say what the chart shows, and its numbers as a Markdown table."""
    labels = list(next(iter(found["metrics"].values())))
    lines = [
        f"What becomes of each metric as `{found['setting']}` changes: means over casts (over"
        " training seeds where there is one cast), shaded their 95 % bootstrap intervals (BCa)."
    ]
    heads = ["metric", found["setting"], *labels]
    if len(labels) > 1:
        lines[0] += (
            " Differences are paired by cast and seed and averaged over each cast; p: Wilcoxon's"
            " signed-rank test, two-sided, corrected over all comparisons of a metric (Holm)."
        )
        heads += [f"difference from {labels[0]}", "p"]
    lines += ["", _row(heads), _row(["---", *["---:"] * (len(heads) - 1)])]
    for metric, of_groups in found["metrics"].items():
        for at in sorted({point["at"] for points in of_groups.values() for point in points}):
            cells = [head(metric), f"{at:g}"]
            cells += [_shown(_at(of_groups[label], at)) for label in labels]
            if differences := [_at(of, at) for of in found["differences"][metric].values()]:
                cells.append("; ".join(_shown(of, sign="+") for of in differences))
                tested = (MISSING if of is None else as_p(of["holm"]) for of in differences)
                cells.append("; ".join(tested))
            lines.append(_row(cells))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _at(points: Sequence[Mapping[str, Any]], at: float) -> Mapping[str, Any] | None:
    return next((point for point in points if point["at"] == at), None)


def _shown(of: Mapping[str, Any] | None, *, sign: str = "") -> str:
    if of is None:
        return MISSING
    known = f" ({between(of['interval'], digits=3, sign=sign)})" if of["interval"] else ""
    return f"{of['mean']:{sign}.3f}{known}"
