"""Distances between concepts."""

from __future__ import annotations

import pytest
import torch

from clif_exp.evaluation.distance import (
    keys_and_values_distance,
    mean_embeddings,
    pairwise_cosine_distance,
    summarise,
)


def test_distances_of_known_vectors():
    distances = pairwise_cosine_distance(torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]]))
    assert distances.tolist() == [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]
    assert summarise(distances)["mean"] == pytest.approx(8 / 6)
    assert summarise(distances)["min"] == 1.0


def test_one_concept_has_no_distance():
    assert summarise(pairwise_cosine_distance(torch.ones(1, 4)))["mean"] is None


def test_a_concept_is_the_mean_of_its_tokens():
    rows = {"a": torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "b": torch.tensor([[2.0, 2.0]])}
    assert pairwise_cosine_distance(mean_embeddings(rows, ["a", "b"]))[0, 1] == pytest.approx(
        0.0, abs=1e-6
    )


def test_keys_and_values_are_those_of_the_cross_attention():
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attn1 = torch.nn.ModuleDict(
                {
                    "to_k": torch.nn.Linear(2, 2, bias=False),
                    "to_v": torch.nn.Linear(2, 2, bias=False),
                }
            )
            self.attn2 = torch.nn.ModuleDict(
                {
                    "to_k": torch.nn.Linear(2, 2, bias=False),
                    "to_v": torch.nn.Linear(2, 2, bias=False),
                }
            )

    block = torch.nn.Sequential(Block())
    with torch.no_grad():
        block[0].attn2["to_k"].weight.copy_(torch.eye(2))
        block[0].attn2["to_v"].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    tokens = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert keys_and_values_distance(block, tokens)[0, 1] == pytest.approx(1.0)
