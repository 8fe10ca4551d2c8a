"""The nearest LoRA to a change of whole weights, for tools that load nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from clif_exp.base_models.unet_tuning.exported import Fit, WebLora

if TYPE_CHECKING:
    from torch import Tensor


def nearest_lora(changes: Iterable[tuple[str, Tensor]], *, rank: int) -> WebLora:
    """Return the least-squares LoRA of every changed matrix of a U-Net, and how near it comes.

    Convolutions are taken as matrices of outputs x (inputs x kernel), as kohya's LoRAs have them.
    Biases and norms are left out, as no LoRA has a place for them.

    Args:
        changes: name of a parameter -> trained minus base, float32; read one at a time.
        rank: of the LoRA; layers that are narrower are held exactly.

    Returns:
        Half-precision factors; the errors are those of what is stored.
    """
    import torch

    tensors: dict[str, Tensor] = {}
    total = lost = left_out = 0.0
    worst = (0.0, "")
    for name, change in changes:
        squared = squared_norm(change)
        total += squared
        layer, _, kind = name.rpartition(".")
        if squared == 0.0:
            continue
        if kind != "weight" or change.ndim not in (2, 4):
            left_out += squared
            continue
        up, down = truncate(change.flatten(1), rank=rank)
        # With one alpha for all, a narrower layer would be scaled by more than 1.
        up = (up * (up.shape[1] / rank)).to(torch.float16)
        down = down.to(torch.float16)
        stored = (up.float() @ down.float()) * (rank / up.shape[1])
        missed = squared_norm(change.flatten(1) - stored)
        lost += missed
        worst = max(worst, (math.sqrt(missed / squared), layer))
        kernel = change.shape[2:]
        tensors[f"unet.{layer}.lora_A.weight"] = down.reshape(-1, change.shape[1], *kernel)
        tensors[f"unet.{layer}.lora_B.weight"] = up.reshape(*up.shape, *(1 for _ in kernel))
    fit = Fit(
        rank=rank,
        error=math.sqrt((lost + left_out) / total) if total else 0.0,
        worst_layer=worst[1],
        worst_error=worst[0],
        left_out=math.sqrt(left_out / total) if total else 0.0,
    )
    return WebLora(tensors, ranks={"unet": rank}, alphas={"unet": float(rank)}, fit=fit)


def truncate(matrix_MN: Tensor, *, rank: int) -> tuple[Tensor, Tensor]:
    """Return the nearest matrix of a rank as two factors, from a truncated decomposition (SVD).

    From the eigenvectors of the smaller Gram matrix, which costs a fraction of a full decomposition
    of wide matrices; singular values below about 2e-4 of the largest are not told apart in single
    precision (Golub and Van Loan, Matrix Computations, 5.3.2).

    Args:
        matrix_MN: float32 [M, N].
        rank: R, cut to the smaller side.

    Returns:
        [M, R] and [R, N], whose columns and rows have equal norms, so that both survive rounding.
    """
    import torch

    if matrix_MN.shape[0] > matrix_MN.shape[1]:
        up, down = truncate(matrix_MN.T, rank=rank)
        return down.T, up.T
    gram_MM = matrix_MN @ matrix_MN.T
    rank = min(rank, len(gram_MM))
    vectors_MR = torch.linalg.eigh(gram_MM).eigenvectors[:, -rank:].flip(1)
    rows_RN = vectors_MR.T @ matrix_MN
    roots_R = torch.linalg.vector_norm(rows_RN, dim=1).sqrt()
    return vectors_MR * roots_R, rows_RN / roots_R.clamp_min(torch.finfo(torch.float32).tiny)[
        :, None
    ]


def squared_norm(tensor: Tensor) -> float:
    """Return the sum of squares."""
    import torch

    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2
