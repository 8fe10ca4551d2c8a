"""Pinned results: whoever changes what evaluation measures raises `EvaluationSettings.VERSION`, or
old artifacts would be reused.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random

from clif_exp.evaluation import confusion
from clif_exp.evaluation.confusion import judge_image
from clif_exp.evaluation.figures import AMBIGUOUS, NOT_VISIBLE, Figure
from clif_exp.evaluation.settings import EvaluationSettings

PINNED = {2: "e28adf68a9e3011a"}
SLOTS = ("species", "coat", "hat", "hat_colour", "top_colour")
VALUES = ("red", "blue", "green", "none", AMBIGUOUS, NOT_VISIBLE)


def test_what_is_measured_changes_only_with_the_version():
    rng = random.Random(0)
    truth = {name: {slot: rng.choice(VALUES[:4]) for slot in SLOTS} for name in "abc"}
    multis, singles = [], []
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
        multis.append(
            judge_image(figures, pair, truth=truth, sides=("left", "right") if index % 2 else None)
        )
        singles.append(judge_image(figures, pair[:1], truth=truth, others="abc"))
    metrics = confusion.summarise(
        multis, multi=True, baseline=confusion.leak_baseline(singles), identity_threshold=0.75
    )
    metrics |= {
        f"single/{name}": value
        for name, value in confusion.summarise(
            singles, multi=False, baseline={}, identity_threshold=0.75
        ).items()
    }
    assert all(value is not None for value in metrics.values())
    digest = hashlib.sha256(
        json.dumps({name: round(value, 9) for name, value in metrics.items()}).encode()
    ).hexdigest()[:16]
    assert digest == PINNED[EvaluationSettings.VERSION], (
        f"results have changed: raise EvaluationSettings.VERSION and pin {digest} for it"
    )
