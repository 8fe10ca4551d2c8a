"""What `comparison.html` knows of its runs, as plain values for its JSON."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from clif_exp.compare.run import Run, Scalar, differing
from clif_exp.evaluation.metrics import IMAGE_COUNT, METRICS

STATUSES = ("finished", "failed", "killed", "refused", "pruned")

_MOST_POINTS = 400  # of one curve: more than a chart has pixels to tell apart
_FEWEST_POINTS = 60
_POINTS_OF_ALL = 400_000  # about 6 MB of JSON

_FIRST_METRICS = (
    "multi/identity",
    "multi/attendance",
    "multi/leakage",
    "multi/confusion",
    "single/identity",
    "prior/identity",
)
_GROUP_CHOICE = ".name"  # `method.name` tells what `method=clif` chose
_FIRST_COLUMNS = 6  # metrics, and settings, that are shown until the reader chooses


def describe_runs(runs: Sequence[Run], *, title: str) -> dict[str, Any]:
    """Describe runs, without their images.

    Returns:
        `title`, `statuses`, `settings` (those that differ), `constant` (the others, as pairs of
        texts), `metrics`, `curves` (their names), `facts` (names of provenance), `stages`, and
        `runs`, each with positions in these lists.
    """
    keys = differing(runs)
    labels = shorten_keys(keys)
    constant = _constant(runs, keys)
    settings = [_describe_setting(key, label, runs) for key, label in labels.items()]
    metrics = _order_metrics(dict.fromkeys(key for run in runs for key in run.metrics))
    curves = list(
        dict.fromkeys(key for run in runs for key, points in run.curves.items() if points)
    )
    facts = list(dict.fromkeys(key for run in runs for key in run.provenance))
    stages = list(dict.fromkeys(stage for run in runs for stage in run.seconds))
    points = _points_per_curve(runs)
    _choose_first(settings, runs)
    return {
        "title": title,
        "statuses": [
            {"name": status, "count": count}
            for status, count in sorted(
                Counter(run.status for run in runs).items(), key=lambda found: _rank(found[0])
            )
        ],
        "settings": settings,
        "constant": constant,
        "metrics": [_describe_metric(key, metrics) for key in metrics],
        "curves": curves,
        "facts": facts,
        "stages": stages,
        "runs": [
            {
                "name": run.name,
                "label": shorten_name(run.name, labels, constant={key for key, _ in constant}),
                "folder": str(run.folder),
                "status": run.status,
                "error": run.error,
                "seed": run.seed,
                "settings": [_place(setting, run) for setting in settings],
                "metrics": [_finite(run.metrics.get(key)) for key in metrics],
                "seconds": [_finite(run.seconds.get(stage)) for stage in stages],
                "reused": list(run.reused),
                "facts": [run.provenance.get(key) for key in facts],
                "curves": {
                    str(place): thin_curve(run.curves[key], most=points)
                    for place, key in enumerate(curves)
                    if run.curves.get(key)
                },
            }
            for run in runs
        ],
    }


def thin_curve(points: Sequence[tuple[int, float]], *, most: int) -> list[list[float | None]]:
    """Return steps and values of a curve, in at most `most` points.

    A long curve is cut into stretches of equal length; each is told by its mean, at its middle
    step, so that smoothing the thinned curve smooths the measured one. What is not finite becomes
    None, a gap, where a stretch holds nothing else.
    """
    stretches = min(most, len(points))
    edges = [place * len(points) // stretches for place in range(stretches + 1)]
    steps: list[float | None] = []
    values: list[float | None] = []
    for start, stop in itertools.pairwise(edges):
        found = [value for _, value in points[start:stop] if math.isfinite(value)]
        steps.append((points[start][0] + points[stop - 1][0]) // 2)
        values.append(float(f"{sum(found) / len(found):.5g}") if found else None)
    return [steps, values]


def shorten_name(name: str, labels: Mapping[str, str], *, constant: Collection[str]) -> str:
    """Return a run's name with settings by their labels: `rank=16` for `diffusion.rank=16`.

    Settings that all runs share say nothing and are left out, unless nothing else is left.
    """
    parts = re.split(r"[,\s]+(?=[+~]?[\w.@/]+=)", name)
    kept = [part for part in parts if part.split("=")[0].lstrip("+") not in constant]
    return ", ".join(
        re.sub(r"^[\w.]+(?==)", lambda key: labels.get(key[0], key[0]), part)
        for part in kept or parts
    )


def _points_per_curve(runs: Sequence[Run]) -> int:
    count = sum(len(run.curves) for run in runs)
    return max(_FEWEST_POINTS, min(_MOST_POINTS, _POINTS_OF_ALL // max(1, count)))


def _describe_setting(key: str, label: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Describe a setting; `values` are all there are: numbers by size, then texts as they came."""
    found = list(dict.fromkeys(_text(run.settings[key]) for run in runs if key in run.settings))
    numbers = {text: _number(text) for text in found}
    found.sort(key=lambda text: (numbers[text] is None, numbers[text] or 0.0))
    return {
        "key": key,
        "label": label,
        "over": key.removesuffix(_GROUP_CHOICE).removesuffix(label).rstrip("."),
        "values": [{"text": text, "number": numbers[text]} for text in found],
        "shown": False,
    }


def _choose_first(settings: Sequence[dict[str, Any]], runs: Sequence[Run]) -> None:
    """Mark the settings that the table shows first: those that runs are called by, or any."""
    named = {key for run in runs for key in re.findall(r"([\w.]+)=", run.name)}
    called = [
        setting
        for setting in settings
        if setting["key"] in named or setting["key"].removesuffix(_GROUP_CHOICE) in named
    ]
    for setting in (called or sorted(settings, key=_tells_little))[:_FIRST_COLUMNS]:
        setting["shown"] = True


def _tells_little(setting: Mapping[str, Any]) -> bool:
    """Whether a setting says little in a table: one value or none, lists, and places."""
    texts = [value["text"] for value in setting["values"]]
    return len(texts) < 2 or any("/" in text or text.startswith(("[", "{")) for text in texts)


def _place(setting: Mapping[str, Any], run: Run) -> int | None:
    if setting["key"] not in run.settings:
        return None
    text = _text(run.settings[setting["key"]])
    return next(place for place, value in enumerate(setting["values"]) if value["text"] == text)


def _constant(runs: Sequence[Run], keys: Iterable[str]) -> list[list[str]]:
    differ = {*keys, "seed"}
    return [
        [key, _text(value)]
        for key, value in (runs[0].settings.items() if runs else ())
        if key not in differ
    ]


def shorten_keys(keys: Sequence[str]) -> dict[str, str]:
    """Shorten keys to their last parts, to as many as tell them apart."""
    labels = {}
    whole = [key.removesuffix(_GROUP_CHOICE) for key in keys]
    for key in keys:
        parts = key.removesuffix(_GROUP_CHOICE).split(".")
        for count in range(1, len(parts) + 1):
            label = ".".join(parts[-count:])
            if sum(f".{other}".endswith(f".{label}") for other in whole) == 1:
                break
        labels[key] = label
    return labels


def _order_metrics(keys: Iterable[str]) -> list[str]:
    """Sort metrics as tables do: whole groups before breakdowns, then as METRICS states them."""
    names = [metric.name for metric in METRICS]
    found = [key for key in keys if key.split("/")[-1] != IMAGE_COUNT]
    groups = list(dict.fromkeys(key.rpartition("/")[0] for key in found))
    return sorted(
        found,
        key=lambda key: (
            key.count("/") > 1,
            groups.index(key.rpartition("/")[0]),
            names.index(name) if (name := key.split("/")[-1]) in names else len(names),
        ),
    )


def _describe_metric(key: str, keys: Sequence[str]) -> dict[str, Any]:
    group, _, name = key.rpartition("/")
    metric = next((metric for metric in METRICS if metric.name == name), None)
    first = [key for key in _FIRST_METRICS if key in keys] or list(keys[:_FIRST_COLUMNS])
    return {
        "key": key,
        "group": group,
        "label": metric.title if metric else name,
        "better": metric.better if metric else None,
        "meaning": metric.meaning if metric else "",
        "shown": key in first,
    }


def _rank(status: str) -> int:
    return STATUSES.index(status) if status in STATUSES else len(STATUSES)


def _text(value: Scalar) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(text: str) -> float | None:
    try:
        return _finite(float(text))
    except ValueError:
        return None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
