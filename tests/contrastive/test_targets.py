"""Positive, negative, ignored: each rule of the contrastive targets by itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clif_exp.contrastive.targets import IGNORED, NEGATIVE, POSITIVE, PairMeta, contrastive_targets

BASE = PairMeta(concept="rick", part=None, context="a chef", side="left")


@pytest.mark.parametrize(
    ("other", "eos", "concept"),
    [
        (BASE, POSITIVE, POSITIVE),  # another image of the same
        (PairMeta("rick", None, "a chef", "right"), IGNORED, POSITIVE),  # mirrored
        (PairMeta("rick", None, "a cat", "left"), NEGATIVE, POSITIVE),  # another context
        (
            PairMeta("rick", "hat", "a chef", "left"),
            IGNORED,
            IGNORED,
        ),  # a whole against its own part
        (PairMeta("rick", "hat", "a cap", "right"), IGNORED, IGNORED),
        (
            PairMeta("morty", None, "a chef", "left"),
            NEGATIVE,
            NEGATIVE,
        ),  # another concept: what there is to learn
        (PairMeta("morty", "hat", "a chef", "left"), NEGATIVE, NEGATIVE),
    ],
)
def test_rules(other, eos, concept):
    for pooling, expected in (("eos", eos), ("concept", concept)):
        targets = contrastive_targets([BASE, other], pooling=pooling)
        assert targets.dtype == torch.int8
        assert targets.diagonal().tolist() == [POSITIVE, POSITIVE]
        assert targets[0, 1] == targets[1, 0] == expected, pooling


def test_different_parts_of_one_concept_are_negatives():
    targets = contrastive_targets(
        [PairMeta("rick", "hat", "a cap", "left"), PairMeta("rick", "coat", "a cap", "left")]
    )
    assert targets[0, 1] == NEGATIVE


def test_parts_that_look_the_same_are_ignored():
    pairs = [PairMeta(name, "hat", "a cap", "left") for name in ("rick", "morty", "jerry")]
    features = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0]]), dim=-1)
    targets = contrastive_targets(pairs, part_features_ND=features, identical_part_threshold=0.97)
    assert targets[0, 1] == targets[1, 0] == IGNORED
    assert targets[0, 2] == NEGATIVE
    assert (
        contrastive_targets(pairs, part_features_ND=features, identical_part_threshold=1.0)[0, 1]
        == NEGATIVE
    )


def test_wholes_that_look_the_same_are_still_negatives():
    pairs = [PairMeta(name, None, "a chef", "left") for name in ("rick", "morty")]
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert (
        contrastive_targets(pairs, part_features_ND=features, identical_part_threshold=0.97)[0, 1]
        == NEGATIVE
    )


def test_pooling_may_differ_between_captions():
    other = PairMeta("rick", None, "a cat", "left")
    targets = contrastive_targets([BASE, other], pooling=["concept", "eos"])
    assert targets[0, 1] == POSITIVE
    assert targets[1, 0] == NEGATIVE


def test_a_stranger_is_a_negative_of_the_concept_whose_place_it_takes():
    concept = PairMeta(concept="rick", part=None, context="a dog", side="left")
    stranger = PairMeta("a cat", None, "a dog", "left", stranger=True)
    again = PairMeta("a cat", None, "a dog", "left", stranger=True)
    targets = contrastive_targets([concept, stranger, again])
    assert targets.tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 1]]
