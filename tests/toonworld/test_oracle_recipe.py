"""What the oracle is trained on and examined by."""

from __future__ import annotations

import numpy as np

from clif_exp.toonworld.oracle import ANSWERS, NOT_VISIBLE
from clif_exp.toonworld.recipes.oracle import EXAMINATION, TRAINING, _scene, draw_example
from clif_exp.toonworld.scenes import sample_scene


def test_training_shows_the_hard_cases_oftener():
    def share(mix) -> float:
        scenes = [_scene(np.random.default_rng([1, i]), mix) for i in range(400)]
        return float(np.mean([scene.interaction in ("behind", "riding") for scene in scenes]))

    assert share(TRAINING) > 1.7 * share(EXAMINATION)
    hidden = [list(answers).index(NOT_VISIBLE) for answers in ANSWERS.values()]
    counts = [sum((draw_example(1, i, mix=mix).answers == hidden).sum() for i in range(80)) for mix in (EXAMINATION, TRAINING)]
    assert counts[1] > counts[0] > 0


def test_the_examination_is_of_scenes_as_they_come():
    """Whatever training shows oftener, cards stay comparable."""
    for index in range(40):
        one, other = (np.random.default_rng([2, index]) for _ in range(2))
        assert _scene(one, EXAMINATION) == sample_scene(other, allow_cast_only=True)
