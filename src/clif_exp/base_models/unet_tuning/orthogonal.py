"""Directions for concepts that are trained apart and share none (Orthogonal Adaptation).

Po et al. 2024, "Orthogonal Adaptation for Modular Customization of Diffusion Models", section 3.3:
every concept's update dW_i = B_i A_i has its A_i frozen at rows of one random orthonormal basis of
the layer's inputs, and no two concepts the same rows. Then A_i A_j^T = 0, and what one update reads
of an input the others do not.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def disjoint_rows(layer: str, *, width: int, rank: int, concept: int, seed: int) -> Tensor:
    """Return a concept's rows of a layer's random orthonormal basis.

    They follow from the arguments alone, whatever other concepts there are.

    Args:
        layer: its name.
        width: of its inputs.
        rank: rows per concept.
        concept: its index, >= 0.
        seed: of the basis, the same for all concepts.

    Returns:
        Rows concept * rank to (concept + 1) * rank of the basis, float32 [rank, width].

    Raises:
        ValueError: the basis has fewer rows.
    """
    import numpy as np
    import torch

    check_room(layer, width=width, rank=rank, concepts=concept + 1)
    entropy = hashlib.sha256(f"{seed}|{layer}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(entropy, "big"))
    # Drawn row by row, so that a concept's rows do not depend on how many come after them.
    drawn_RI = generator.standard_normal(((concept + 1) * rank, width))
    basis_IR, upper_RR = np.linalg.qr(drawn_RI.T)
    # LAPACK leaves the signs open; with a positive diagonal the factorisation is unique.
    basis_RI = (basis_IR * np.where(np.diag(upper_RR) < 0, -1.0, 1.0)).T
    return torch.from_numpy(np.ascontiguousarray(basis_RI[concept * rank :], dtype=np.float32))


def check_room(layer: str, *, width: int, rank: int, concepts: int) -> None:
    """Refuse more directions than a layer reads.

    Args:
        layer: its name.
        width: of its inputs.
        rank: directions per concept.
        concepts: how many there are.

    Raises:
        ValueError: says what would fit.
    """
    if concepts * rank > width:
        raise ValueError(
            f"diffusion.rank: found {rank}, for {concepts} concepts that share no direction:"
            f" {concepts * rank} directions, but {layer} reads {width}. Choose a rank of at most"
            f" {width // concepts}, or fewer concepts."
        )
