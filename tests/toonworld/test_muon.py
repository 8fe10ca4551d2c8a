"""The optimiser of the base models."""

import pytest
import torch
from torch import nn

from clif_exp.toonworld.recipes.muon import MuonAdamW, matrices_and_rest, orthogonalise


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.Flatten(), nn.LazyLinear(20), nn.Linear(20, 1)
    )


@pytest.mark.parametrize("shape", [(32, 288), (288, 32), (64, 64)])
def test_orthogonalise_keeps_directions_and_equalises_singular_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    result = orthogonalise(matrix)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.4
    assert values.max() < 1.4
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert (result * (left @ right)).sum() / result.norm() / (left @ right).norm() > 0.9


def test_first_and_last_layers_norms_and_embeddings_stay_with_adamw():
    model = _model()
    model(torch.zeros(1, 3, 8, 8))
    matrices, rest = matrices_and_rest(model)
    assert [tuple(p.shape) for p in matrices] == [(32, 32, 3, 3), (20, 512)]
    assert len(rest) == len(list(model.parameters())) - 2


def test_adamw_half_equals_torchs_own():
    ours, theirs = nn.Linear(8, 8), nn.Linear(8, 8)  # too small for Muon
    theirs.load_state_dict(ours.state_dict())
    optimiser = MuonAdamW(ours, lr=1.0, adamw_lr=1e-2, weight_decay=0.1, betas=(0.9, 0.99))
    reference = torch.optim.AdamW(
        theirs.parameters(), lr=1e-2, weight_decay=0.1, betas=(0.9, 0.99), eps=1e-8
    )
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    for _ in range(5):
        for model, opt in ((ours, optimiser), (theirs, reference)):
            opt.zero_grad()
            model(x).square().sum().backward()
            opt.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_state_survives_saving_bit_for_bit():
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))

    def steps(model: nn.Module, optimiser: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad()
            (model(x) - 1).square().mean().backward()
            optimiser.step()

    model = _model()
    model(x)
    optimiser = MuonAdamW(model, lr=1e-2, adamw_lr=1e-2)
    steps(model, optimiser, 3)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    state = optimiser.state_dict()
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    steps(model, optimiser, 3)

    resumed = _model()
    resumed(x)
    resumed.load_state_dict(weights)
    buffer.seek(0)
    again = MuonAdamW(resumed, lr=1e-2, adamw_lr=1e-2)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    steps(resumed, again, 3)
    for key, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
