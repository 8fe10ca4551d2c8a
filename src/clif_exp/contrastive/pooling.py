"""Where the text feature of a caption is read: at the end of text, or at the concept (CLIF, Eq. 1).

Attention is causal: a token attends to earlier tokens only. So a concept token never sees the words
after it, and for a caption about a part ("... and <rick>'s hat ...") concept pooling reads at the
part's word instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["eos", "concept"]


def eos_positions(ids_BL: Tensor, *, eos_id: int) -> Tensor:
    """Return the position of each caption's first end-of-text token, int64 [B].

    transformers' pooling depends on the order of ids: with `eos_token_id == 2` in a config it pools
    at the highest id, which is an added token, and every word after the concept is lost.

    Raises:
        ValueError: a caption has no end of text (it was truncated).
    """
    is_eos_BL = ids_BL == eos_id
    if not bool(is_eos_BL.any(dim=1).all()):
        row = int((~is_eos_BL.any(dim=1)).nonzero()[0])
        raise ValueError(
            f"caption {row} of the batch holds no end-of-text token {eos_id}: it was truncated."
            " Shorten it."
        )
    return is_eos_BL.int().argmax(dim=1)


def concept_position(
    ids_L: Sequence[int], *, concept_ids: Sequence[int], part_ids: Sequence[int] = ()
) -> int:
    """Return the position at which concept pooling reads one caption.

    Args:
        ids_L: token ids of the caption.
        concept_ids: the concept's tokens; the last one, which has seen them all, is read.
        part_ids: tokens of the part's words, for captions about a part; then their last one, after
            the concept, is read.

    Raises:
        ValueError: the caption does not hold the concept, or the part after it.
    """
    ids = list(ids_L)
    start = _find(ids, list(concept_ids), 0)
    if start < 0:
        raise ValueError(
            f"caption with token ids {ids} does not hold the concept's tokens {list(concept_ids)}."
        )
    last = start + len(concept_ids) - 1
    if not part_ids:
        return last
    part = _find(ids, list(part_ids), last + 1)
    if part < 0:
        raise ValueError(
            f"caption with token ids {ids} does not name the part {list(part_ids)} after the"
            " concept."
        )
    return part + len(part_ids) - 1


def _find(ids: list[int], pattern: list[int], start: int) -> int:
    """Return where a pattern first begins at or after a position, -1 if nowhere."""
    for i in range(start, len(ids) - len(pattern) + 1):
        if ids[i : i + len(pattern)] == pattern:
            return i
    return -1


def cut_padding(ids_BL: Tensor, *, eos_id: int) -> Tensor:
    """Cut the columns after the last caption's end of text.

    Exact: attention is causal, so nothing that is read depends on later tokens.
    """
    return ids_BL[:, : int(eos_positions(ids_BL, eos_id=eos_id).max()) + 1]


def pool(hidden_BLD: Tensor, positions_B: Tensor) -> Tensor:
    """Read one hidden state per caption: [B, L, D] at int64 [B] -> [B, D]."""
    return hidden_BLD[torch.arange(len(hidden_BLD), device=hidden_BLD.device), positions_B]
