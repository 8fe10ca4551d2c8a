"""Muon for matrices and AdamW for the rest, in one optimiser that learns faster than AdamW alone.

Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest orthogonal matrix, so that all
its directions learn equally fast. torch.optim.Muon supports neither convolutions nor a second group
under AdamW.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from clif_exp.base_models.precision import cpu_multiplies_bf16

# Inputs and outputs of a matrix; a model's first and last layers, on pixels, stay with AdamW.
SMALLEST = 16


def matrices_and_rest(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split trainable parameters into hidden linear or convolutional weights and the rest."""
    kinds = (nn.Linear, nn.Conv2d)
    hidden = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, kinds)
        and min(module.weight.shape[:2]) >= SMALLEST
        and module.weight.requires_grad
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [p for p in trainable if id(p) in hidden], [p for p in trainable if id(p) not in hidden]


class MuonAdamW(torch.optim.Optimizer):
    """Muon on a model's matrices, AdamW on its other parameters.

    Args:
        model: its trainable parameters are optimised.
        lr: of the matrices, on AdamW's scale (updates have a root mean square of 0.2 lr).
        adamw_lr: of the rest.
        weight_decay: decoupled, for both.
        momentum: Muon's, with Nesterov's correction.
        betas: AdamW's.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float,
        adamw_lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
    ):
        matrices, rest = matrices_and_rest(model)
        groups: list[dict[str, Any]] = [
            {"params": matrices, "lr": lr, "muon": True},
            {"params": rest, "lr": adamw_lr, "muon": False},
        ]
        super().__init__(
            [group for group in groups if group["params"]],
            {"weight_decay": weight_decay, "momentum": momentum, "betas": betas},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update once; Lightning passes the forward and backward pass as `closure`."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            update = _muon if group["muon"] else _adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, parameter.grad, self.state[parameter], group)
        return value


def _muon(
    parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]
) -> None:
    if not state:
        state["momentum"] = torch.zeros_like(parameter)
    state["momentum"].lerp_(gradient, 1 - group["momentum"])
    direction = gradient.lerp(state["momentum"], group["momentum"]).flatten(1)
    # Scaled to the root mean square of AdamW's updates (Liu et al. 2025, Eq. 4).
    scale = 0.2 * max(direction.shape) ** 0.5
    parameter.add_(orthogonalise(direction).view_as(parameter), alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor, *, iterations: int = 5) -> Tensor:
    """Approximate the nearest semi-orthogonal matrix (Newton-Schulz with Jordan's coefficients).

    The singular values end between 0.7 and 1.2.
    """
    half = matrix.is_cuda or cpu_multiplies_bf16()
    x = matrix.to(torch.bfloat16) if half else matrix
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(
            x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445
        )
    return (x.T if tall else x).to(matrix.dtype)


def _adamw(
    parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
) -> None:
    if not state:
        state |= {
            "step": 0,
            "mean": torch.zeros_like(parameter),
            "square": torch.zeros_like(parameter),
        }
    state["step"] += 1
    first, second = group["betas"]
    state["mean"].lerp_(gradient, 1 - first)
    state["square"].lerp_(gradient.square(), 1 - second)
    spread = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(1e-8)
    parameter.addcdiv_(state["mean"], spread, value=-group["lr"] / (1 - first ** state["step"]))
