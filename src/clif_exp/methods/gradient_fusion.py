"""Gradient fusion of one layer: the weight that does for each concept what the concept's own does.

Gu et al. 2023, "Mix-of-Show: Decentralized Low-Rank Adaptation for Multi-Concept Customization of
Diffusion Models", section 3.3, Eq. 5. With inputs X_i [n_i, I] of each concept, in the rows of one
X, and the concepts' own weights W_i:

    minimise the mean of (X_i W^T - X_i W_i^T)^2 over all concepts' rows and outputs

The paper descends from the base's weight W0 by L-BFGS. It is a linear least-squares problem, so the
normal equations give its minimum at once: with W = W0 + dW,

    (sum_i X_i^T X_i) dW^T = sum_i X_i^T X_i (W_i - W0)^T

Of all minima, descent from W0 converges to the one of least norm of dW (its gradients are
combinations of inputs), and so the pseudo-inverse is taken. Only X_i^T X_i is needed, whatever
n_i. A bias is one more column of the weight, for an input of 1.

Where concepts that read alike want different outputs, the minimum buys the last percents of the
objective with changes many times the size of the base's weight (experiments/merging), in
directions that other images do use. The paper's descent ends before it gets there. A ridge does
the same on purpose: it adds ridge * mean(X^2) * n * ||dW||^2 to the sum of squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Inputs are computed in fp32: directions below it, relative to the largest, are rounding.
_ROUNDING = 1e-6

Spectrum = tuple[Tensor, Tensor]
"""Eigenvalues, ascending, and eigenvectors in columns."""


@dataclass
class LayerFusion:
    """The normal equations of one layer, summed up concept by concept.

    Attributes:
        gram_II: sum of X_i^T X_i, float64 [I, I].
        moment_IO: sum of X_i^T X_i (W_i - W0)^T, float64 [I, O].
    """

    gram_II: Tensor
    moment_IO: Tensor

    @classmethod
    def empty(cls, *, inputs: int, outputs: int) -> LayerFusion:
        """Start without any concept, on the CPU."""
        return cls(
            torch.zeros(inputs, inputs, dtype=torch.float64),
            torch.zeros(inputs, outputs, dtype=torch.float64),
        )

    def add(self, gram_II: Tensor, *, change_OI: Tensor) -> None:
        """Add a concept.

        Args:
            gram_II: X_i^T X_i of its inputs, float64 [I, I].
            change_OI: W_i - W0, float [O, I].
        """
        gram_II = gram_II.to(self.gram_II.device)
        self.gram_II += gram_II
        self.moment_IO += gram_II @ change_OI.to(gram_II).T

    def solve(self, *, ridge: float, spectrum: Spectrum | None = None) -> Tensor:
        """Return the fused weight's change dW, float64 [O, I].

        Args:
            ridge: price of a change, >= 0, in units of the inputs' mean square; 0: none, and of all
                minima that of least norm.
            spectrum: of `gram_II`, if it is known already.
        """
        sizes_I, directions_II = spectrum or torch.linalg.eigh(self.gram_II)
        kept = sizes_I > _ROUNDING**2 * sizes_I[-1]
        directions_IK = directions_II[:, kept]
        damped_K = sizes_I[kept] + ridge * sizes_I.mean()
        return ((directions_IK / damped_K) @ (directions_IK.T @ self.moment_IO)).T


def solve_all(problems: Mapping[str, LayerFusion], *, ridge: float) -> dict[str, Tensor]:
    """Solve layer by layer; those that read the same (all keys and values do) are analysed once.

    Args:
        problems: layer -> its normal equations.
        ridge: see `LayerFusion.solve`.

    Returns:
        Layer -> change dW, float64 [O, I].
    """
    known: dict[tuple[int, float], tuple[Tensor, Spectrum]] = {}
    solved = {}
    for name, problem in problems.items():
        key = (len(problem.gram_II), float(problem.gram_II.sum()))
        if key not in known or not torch.equal(known[key][0], problem.gram_II):
            sizes_I, directions_II = torch.linalg.eigh(problem.gram_II)
            known[key] = problem.gram_II, (sizes_I, directions_II)
        solved[name] = problem.solve(ridge=ridge, spectrum=known[key][1])
    return solved


def fuse(
    base_OI: Tensor, *, inputs: Sequence[Tensor], weights: Sequence[Tensor], ridge: float = 0.0
) -> Tensor:
    """Return a layer's fused weight (Eq. 5), in the base's dtype; computed in float64.

    Args:
        base_OI: W0, float [O, I].
        inputs: X_i of each concept, float [n_i, I]; with a bias, `with_ones` of them.
        weights: W_i of each concept, float [O, I]; with a bias, `affine` of both.
        ridge: see `LayerFusion.solve`.
    """
    outputs, width = base_OI.shape
    problem = LayerFusion.empty(inputs=width, outputs=outputs)
    for own_NI, weight_OI in zip(inputs, weights, strict=True):
        problem.add(gram(own_NI), change_OI=weight_OI.double() - base_OI.double())
    return (base_OI.double() + problem.solve(ridge=ridge).to(base_OI.device)).to(base_OI.dtype)


def objective(weight_OI: Tensor, *, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return what fusion minimises: the mean squared difference of outputs, a scalar.

    Args:
        weight_OI: W, float [O, I].
        inputs: X_i of each concept, float [n_i, I].
        weights: W_i of each concept, float [O, I].
    """
    return (
        torch.cat(
            [
                own_NI @ (weight_OI - own_OI).T
                for own_NI, own_OI in zip(inputs, weights, strict=True)
            ]
        )
        .square()
        .mean()
    )


def gram(inputs_NI: Tensor) -> Tensor:
    """Return X^T X, float64 [I, I]: in fp32, small directions would drown in rounding."""
    inputs_NI = inputs_NI.double()
    return inputs_NI.T @ inputs_NI


def affine(weight_OI: Tensor, bias_O: Tensor) -> Tensor:
    """Return weight and bias as one matrix [O, I + 1] for inputs `with_ones`."""
    return torch.cat([weight_OI, bias_O[:, None]], dim=1)


def with_ones(inputs_NI: Tensor) -> Tensor:
    """Return inputs with the 1 that a bias multiplies, [N, I + 1]."""
    return torch.cat([inputs_NI, inputs_NI.new_ones(len(inputs_NI), 1)], dim=1)
