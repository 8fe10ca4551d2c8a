"""The nearest LoRA to a change is the truncated singular value decomposition's."""

from __future__ import annotations

import pytest
import torch

from clif_exp.base_models.unet_tuning.low_rank import nearest_lora, truncate


def random_matrix(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def low_rank_matrix(rows, columns, *, rank, noise):
    product = random_matrix(rows, rank) @ random_matrix(rank, columns, seed=1)
    return product + noise * random_matrix(rows, columns, seed=2)


MATRICES = {
    "random": random_matrix(96, 160),
    "tall": random_matrix(320, 64),
    "square": random_matrix(128, 128),
    "low rank": low_rank_matrix(96, 200, rank=6, noise=0.05),
    "tall, low rank": low_rank_matrix(300, 80, rank=20, noise=0.01),
    "decaying": random_matrix(128, 128) @ torch.diag(0.9 ** torch.arange(128.0)),
    "small": 1e-6 * random_matrix(64, 96),
}


@pytest.mark.parametrize("rank", [1, 8, 32])
@pytest.mark.parametrize("name", MATRICES)
def test_the_error_is_the_exact_truncated_decompositions(name, rank):
    matrix = MATRICES[name]
    up, down = truncate(matrix, rank=rank)
    assert (up.shape, down.shape) == ((len(matrix), rank), (rank, matrix.shape[1]))
    exact = torch.linalg.svdvals(matrix.double())[rank:].square().sum().sqrt()
    error = (matrix.double() - up.double() @ down.double()).norm()
    assert exact <= error * (1 + 1e-6)
    assert error <= exact * 1.01


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_all_ranks_and_exactly_low_ranks_are_exact(shape):
    for matrix in (random_matrix(*shape), low_rank_matrix(*shape, rank=3, noise=0.0)):
        up, down = truncate(matrix, rank=100)
        assert (up.shape[1], down.shape[0]) == (24, 24)
        torch.testing.assert_close(up @ down, matrix, rtol=0, atol=1e-4)
        up, down = truncate(matrix, rank=3)
    torch.testing.assert_close(up @ down, matrix, rtol=0, atol=1e-3)


def test_nothing_changed_is_no_lora():
    lora = nearest_lora([("a.weight", torch.zeros(4, 4))], rank=2)
    assert not lora.tensors
    assert (lora.fit.error, lora.fit.worst_layer) == (0.0, "")


def test_the_worst_layer_and_what_has_no_place_are_told():
    flat, round_ = low_rank_matrix(20, 20, rank=1, noise=0.0), random_matrix(20, 20)
    found = [("flat.weight", flat), ("round.weight", round_), ("norm.weight", torch.ones(30))]
    fit = nearest_lora(found, rank=1).fit
    total = flat.norm() ** 2 + round_.norm() ** 2 + 30
    lost = torch.linalg.svdvals(round_)[1:].square().sum()
    assert fit.worst_layer == "round"
    assert fit.worst_error == pytest.approx(float((lost / round_.norm() ** 2).sqrt()), rel=0.01)
    assert fit.left_out == pytest.approx(float((30 / total) ** 0.5), rel=0.01)
    assert fit.error == pytest.approx(float(((lost + 30) / total).sqrt()), rel=0.01)
