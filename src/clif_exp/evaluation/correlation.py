"""Confusion of pairs against the distance of their concepts (paper, Fig. 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import write_json

FILE = "distance_confusion.json"
_FEWEST = 3  # points that have a rank correlation worth the name


def confusion_by_distance(
    pairs: Mapping[str, Mapping[str, float]],
    *,
    names: Sequence[str],
    distances: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Put each pair's distances beside its confusion, and correlate their ranks.

    Args:
        pairs: "a|b" -> `confusion`, `leaked` and number of images (`matrices.confusion_per_pair`).
        names: the order of the matrices.
        distances: kind -> its `matrix`, as of one stage of `distance.measure_distances`.

    Returns:
        `pairs`: "a|b" -> what was given and a distance of each kind; `spearman`: kind -> confusion
        and leaked -> `rho` in [-1, 1] and `p`, or None for fewer than three pairs or equal ranks.
        Below 0, near concepts are confused more. `p` takes pairs as independent, which pairs with
        a common concept are not.
    """
    places = {name: index for index, name in enumerate(names)}
    points: dict[str, dict[str, float]] = {}
    for pair, found in pairs.items():
        a, b = (places[name] for name in pair.split("|"))
        points[pair] = dict(found) | {
            kind: measured["matrix"][a][b] for kind, measured in distances.items()
        }
    return {
        "pairs": points,
        "spearman": {
            kind: {
                measure: _spearman(
                    [point[kind] for point in points.values()],
                    [point[measure] for point in points.values()],
                )
                for measure in ("confusion", "leaked")
            }
            for kind in distances
        },
    }


def _spearman(x: Sequence[float], y: Sequence[float]) -> dict[str, float] | None:
    from scipy.stats import spearmanr

    if len(x) < _FEWEST or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    found = spearmanr(x, y)
    return {"rho": float(found.statistic), "p": float(found.pvalue)}


def write_correlation(out: Path) -> None:
    """Write `distance_confusion.json` of a run's concepts, as they are after the last stage.

    Args:
        out: holds `confusion_matrix.json` and, for trained concepts, `distances.json`; nothing is
            written without distances or judged pairs.
    """
    file = out / "distances.json"
    pairs = json.loads((out / "confusion_matrix.json").read_text()).get("multi", {}).get("pairs")
    if not pairs or not file.is_file():
        return
    measured = json.loads(file.read_text())
    last = list(measured["stages"].values())[-1]
    found = confusion_by_distance(pairs, names=measured["names"], distances=last)
    write_json(out / FILE, found)
