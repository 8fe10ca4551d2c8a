"""Pinned results: a change in what evaluation measures must raise `EvaluationSettings.VERSION`.

Otherwise artifacts of the old definitions would be reused.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random

import torch

from clif_exp.evaluation.confusion import judge_image
from clif_exp.evaluation.detect_and_compare import compare_figures
from clif_exp.evaluation.figures import AMBIGUOUS, NOT_VISIBLE, Figure
from clif_exp.evaluation.metrics import METRICS
from clif_exp.evaluation.results import collect_metrics
from clif_exp.evaluation.scoring import Row
from clif_exp.evaluation.settings import EvaluationSettings

PINNED = {8: "ac5f6c02e7ef935a"}
SLOTS = ("species", "coat", "hat", "hat_colour", "top_colour")
VALUES = ("red", "blue", "green", "none", AMBIGUOUS, NOT_VISIBLE)


def test_what_is_measured_changes_only_with_the_version():
    rng = random.Random(0)
    truth = {name: {slot: rng.choice(VALUES[:4]) for slot in SLOTS} for name in "abc"}
    rows = []
    for index in range(60):
        figures = []
        for _ in range(rng.randrange(5)):
            left = rng.random() * 0.8
            attributes = {
                slot: rng.choice([truth[rng.choice("abc")][slot], rng.choice(VALUES)])
                for slot in SLOTS
            }
            figures.append(Figure((left, 0.2, left + 0.2, 0.9), 0.9, attributes))
        pair = list(itertools.permutations("abc", 2))[index % 6]
        sides = ("left", "right") if index % 2 else None
        thresholds = {"presence_threshold": 0.5, "identity_threshold": 0.75}
        multi = judge_image(figures, pair, truth=truth, sides=sides, **thresholds)
        single = judge_image(figures, pair[:1], truth=truth, others="abc", **thresholds)
        rows.append(Row({"kind": "multi", "layout": "side"}, {}, figures, multi))
        rows.append(Row({"kind": "single", "layout": "free"}, {}, figures, single))
    found = collect_metrics(rows, {"stage1": rows[:7]}, names="abc")
    metrics = {
        prefix + metric.name: found[f"{group}/{metric.name}"]
        for group, prefix in (("multi", ""), ("single", "single/"))
        for metric in METRICS
        if metric.judged is not None and group in metric.groups
    }
    assert all(value is not None for value in metrics.values())
    generator = torch.Generator().manual_seed(0)
    references = [
        torch.nn.functional.normalize(torch.randn(count, 8, generator=generator), dim=-1)
        for count in (3, 4)
    ]
    figures = [torch.stack([references[1][0], references[0][0]]), references[0][:2]]
    metrics["detect_and_compare"] = sum(compare_figures(each, references) for each in figures)
    digest = hashlib.sha256(
        json.dumps({name: round(value, 5) for name, value in metrics.items()}).encode()
    ).hexdigest()[:16]
    assert digest == PINNED[EvaluationSettings.VERSION], (
        f"results have changed: raise EvaluationSettings.VERSION and pin {digest} for it"
    )
