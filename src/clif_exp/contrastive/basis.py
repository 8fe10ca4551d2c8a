"""The span of words that stand for whole looks, within which concept embeddings can be kept.

As in Celeb Basis (Yuan et al. 2023): a U-Net reads a name as a whole look, so an embedding among
the names' is one it can read. Elsewhere the contrastive loss is as happy with embeddings that no
U-Net has ever met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clif_exp.base_models.spec import BaseModels


@dataclass(frozen=True)
class WordBasis:
    """Principal components of some words' embeddings, each as long as their standard deviation.

    Attributes:
        mean_D: the words' mean, float32 [D].
        components_RD: largest first, float32 [R, D].
    """

    mean_D: Tensor
    components_RD: Tensor

    @classmethod
    def of(cls, words_WD: Tensor, *, rank: int) -> WordBasis:
        """Compute the basis of words' embeddings.

        Args:
            words_WD: their embeddings, float [W, D].
            rank: components to keep; fewer where the words span less.
        """
        words_WD = words_WD.detach().float()
        mean_D = words_WD.mean(0)
        _, lengths_K, directions_KD = torch.linalg.svd(words_WD - mean_D, full_matrices=False)
        deviations_K = lengths_K / len(words_WD) ** 0.5
        kept = min(rank, int((deviations_K > 1e-6 * deviations_K[0]).sum()))
        return cls(mean_D, (deviations_K[:, None] * directions_KD)[:kept].contiguous())

    def embeddings(self, coordinates_TR: Tensor) -> Tensor:
        """Return the embeddings [T, D] at coordinates in standard deviations, [T, R]."""
        return self.mean_D + coordinates_TR @ self.components_RD

    def to(self, device: Any) -> WordBasis:
        """Return the basis on a device."""
        return WordBasis(self.mean_D.to(device), self.components_RD.to(device))


def basis_words(spec: BaseModels, *, words: Sequence[str] | None) -> tuple[str, ...]:
    """Return the words of `contrastive.basis`, or the names that the base models know.

    Args:
        spec: resolved base models.
        words: as set; None: the base models' own names, which only ToonWorld's are known to have
            (`runs.config` refuses it for others).
    """
    from clif_exp.base_models.families import family_named

    if words is not None:
        return tuple(words)
    assert family_named(spec.family).world == "toonworld", spec.family
    from clif_exp.toonworld.names import NAMES

    return NAMES


def word_basis(table_VD: Tensor, *, tokenizer: Any, words: Sequence[str], rank: int) -> WordBasis:
    """Compute the basis of those of the words that are one token.

    Raises:
        ValueError: hardly any of them is.
    """
    tokens = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
    ids = sorted({ids[0] for ids in tokens if len(ids) == 1})
    if len(ids) < 2:
        raise ValueError(
            f"contrastive.basis.words: of {len(words)} words {len(ids)} are a single token of this"
            " text encoder; choose others, or set contrastive.basis=null"
        )
    return WordBasis.of(table_VD[torch.tensor(ids, device=table_VD.device)], rank=rank)
