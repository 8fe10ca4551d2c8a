"""Starts a wide network from a narrow one, or a text encoder from one that knew fewer words."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def widened(narrow: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return weights with which `model` computes what a narrower network of the same modules does.

    After Net2WiderNet (Chen et al. 2016, Algorithm 1).

    Trained layers get copies of channels, whose readers split the original's weight between the
    copies in random shares, so that the copies can diverge. Frozen layers get channels that are
    zero and that nothing reads. Group norms keep their statistics if the groups are of the same
    size in both networks, since whole groups are added.

    Args:
        narrow: state dict of the narrow network.
        model: the wide one; `requires_grad` marks what is trained.

    Raises:
        RuntimeError: the modules differ, or the wide network has fewer channels.
    """
    wide = model.state_dict()
    if wide.keys() != narrow.keys():
        raise RuntimeError(
            f"not the same modules: {', '.join(sorted(wide.keys() ^ narrow.keys())[:4])}"
        )
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, like in wide.items():
        old = narrow[name]
        if old.shape[2:] != like.shape[2:] or any(
            a > b for a, b in zip(old.shape, like.shape, strict=True)
        ):
            raise RuntimeError(
                f"{name}: {tuple(old.shape)} cannot be widened to {tuple(like.shape)}"
            )
        state[name] = (
            old
            if old.shape == like.shape
            else _copied(old, like, generator)
            if name in trained
            else _padded(old, like)
        )
    return state


def _copied(narrow: Tensor, like: Tensor, generator: torch.Generator) -> Tensor:
    weight = narrow[torch.arange(len(like)) % len(narrow)]
    if narrow.ndim == 1:
        return weight
    originals = torch.arange(like.shape[1]) % narrow.shape[1]
    shares = 0.25 + torch.rand(like.shape[:2], generator=generator)
    shares = (
        shares
        / torch.zeros(len(like), narrow.shape[1]).index_add_(1, originals, shares)[:, originals]
    )
    return weight[:, originals] * shares.view(*like.shape[:2], *[1] * (narrow.ndim - 2))


def _padded(narrow: Tensor, like: Tensor) -> Tensor:
    weight = torch.zeros_like(like, dtype=narrow.dtype)
    weight[tuple(slice(size) for size in narrow.shape)] = narrow
    return weight


def with_new_words(table_VC: Tensor, *, old: dict[str, int], new: dict[str, int]) -> Tensor:
    """Return token embeddings for another vocabulary: known tokens keep theirs, by name.

    New ones are drawn around the mean of the known words, with their spread.

    Args:
        table_VC: token embeddings, float [V, C].
        old: token -> row of `table_VC`.
        new: token -> row of the result.
    """
    words_WC = table_VC[[row for token, row in old.items() if len(token) > len("x</w>")]]
    noise = torch.randn(len(new), table_VC.shape[1], generator=torch.Generator().manual_seed(0))
    grown = words_WC.mean(0) + words_WC.std(0) * noise
    for token, row in new.items():
        if token in old:
            grown[row] = table_VC[old[token]]
    return grown
