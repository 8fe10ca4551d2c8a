"""The oracle's training and examination examples."""

from __future__ import annotations

import numpy as np
import torch

from clif_exp.toonworld.oracle import ANSWERS, NOT_VISIBLE
from clif_exp.toonworld.recipes.oracle import _mirror
from clif_exp.toonworld.recipes.oracle_examples import (
    EXAMINATION,
    TRAINING,
    _scene,
    draw_example,
)
from clif_exp.toonworld.scenes import sample_scene


def test_training_shows_hard_cases_more_often():
    def share(mix) -> float:
        scenes = [_scene(np.random.default_rng([1, i]), mix) for i in range(400)]
        return float(np.mean([scene.interaction in ("behind", "riding") for scene in scenes]))

    assert share(TRAINING) > 1.7 * share(EXAMINATION)
    hidden = [list(answers).index(NOT_VISIBLE) for answers in ANSWERS.values()]
    counts = [
        sum((draw_example(1, i, mix=mix).answers == hidden).sum() for i in range(80))
        for mix in (EXAMINATION, TRAINING)
    ]
    assert counts[1] > counts[0] > 0


def test_examination_scenes_follow_the_base_distribution():
    """Model cards stay comparable, whatever training shows more often."""
    for index in range(40):
        one, other = (np.random.default_rng([2, index]) for _ in range(2))
        assert _scene(one, EXAMINATION) == sample_scene(other, allow_cast_only=True)


def test_boxes_and_places_are_mirrored_with_their_image():
    images, boxes, cells = (
        torch.zeros(2, 3, 128, 128),
        torch.full((2, 3, 4), float("nan")),
        torch.zeros(2, 7, 16, 16, dtype=torch.long),
    )
    images[:, :, 40:80, 16:48] = 1
    boxes[:, 0] = torch.tensor([16.0, 40.0, 48.0, 80.0])
    cells[:, :, 5:10, 2:6] = 1
    _mirror(images, boxes, cells, rows=torch.tensor([False, True]))
    for image, box, answers in zip(images, boxes[:, 0].int().tolist(), cells, strict=True):
        left, top, right, bottom = box
        assert image[:, top:bottom, left:right].min() == 1
        assert image.sum() == 3 * (right - left) * (bottom - top)
        assert torch.equal(answers[0].bool(), torch.nn.functional.max_pool2d(image, 8)[0].bool())
    assert boxes[0, 0, 0] != boxes[1, 0, 0]
    assert boxes[:, 1:].isnan().all()
