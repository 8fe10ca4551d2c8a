"""Alignment: the formula, the references, and who may judge."""

from __future__ import annotations

import pytest
import torch

from clif_exp.evaluation.alignment import (
    check_independent,
    image_scores,
    reference_files,
    text_scores,
)


def unit(*angles: float) -> torch.Tensor:
    """Vectors on the unit circle at angles in degrees."""
    return torch.tensor(
        [
            [torch.cos(torch.tensor(a).deg2rad()), torch.sin(torch.tensor(a).deg2rad())]
            for a in angles
        ]
    )


def test_text_alignment_is_two_and_a_half_times_the_cosine_cut_at_zero():
    scores = text_scores(unit(0, 0, 0), unit(0, 60, 120))
    assert scores["text_alignment"] == pytest.approx([2.5, 1.25, 0.0], abs=1e-6)
    assert scores["text_cosine"] == pytest.approx([1.0, 0.5, -0.5], abs=1e-6)


def test_image_alignment_is_the_mean_over_generated_and_reference_pairs():
    references = {"a": unit(0, 60), "b": unit(90), "unused": unit(0)}
    scores = image_scores(unit(0, 0, 0), [["a"], ["a", "b"], []], references)
    assert scores[0] == pytest.approx(0.75)
    assert scores[1] == pytest.approx((0.75 + 0) / 2, abs=1e-6)
    assert scores[2] is None


def test_references_are_those_that_training_has_not_seen(tmp_path):
    training = [tmp_path / "rick" / "0.png"]
    assert reference_files("rick", dataset_root=tmp_path, training=training) == training
    held_out = tmp_path / "held_out" / "rick"
    held_out.mkdir(parents=True)
    for name in ("1.png", "0.png", "notes.txt"):
        (held_out / name).touch()
    assert reference_files("rick", dataset_root=tmp_path, training=training) == [
        held_out / "0.png",
        held_out / "1.png",
    ]


def test_the_clip_that_stage_1_trains_against_may_not_judge(tmp_path):
    (tmp_path / "clip").mkdir()
    check_independent(tmp_path / "other", {"text_encoder": str(tmp_path / "clip")})
    for path in (tmp_path / "clip", tmp_path / "x" / ".." / "clip"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=r"evaluation\.judge\.path"):
            check_independent(path, {"text_encoder": str(tmp_path / "clip")})
