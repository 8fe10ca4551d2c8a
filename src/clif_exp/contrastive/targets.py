"""Which captions and images of a batch match, do not match, or are ignored (CLIF, section 4.2).

Two images of one concept beside the same context match each other's captions; counting them as
negatives, as `arange` labels would, pushes a concept away from itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clif_exp.contrastive.pooling import Pooling

NEGATIVE, POSITIVE, IGNORED = 0, 1, -1


@dataclass(frozen=True)
class PairMeta:
    """What a pair's targets depend on.

    Args:
        concept: name of the customised concept; of a stranger in its place "a " and the
            general concept, which no concept can be called.
        part: name of its part, or None for the whole concept.
        context: the general concept beside it, as its phrase.
        side: side or row index of the concept.
        stranger: a general concept stands in the concept's place, and nothing of its caption
            trains.
    """

    concept: str
    part: str | None
    context: str | None
    side: str | None
    stranger: bool = False


def contrastive_targets(
    pairs: Sequence[PairMeta],
    *,
    pooling: Pooling | Sequence[Pooling] = "eos",
    part_features_ND: Tensor | None = None,
    identical_part_threshold: float = 1.0,
) -> Tensor:
    """Decide each entry of the matrix of captions against images.

    Positive: same concept and same part (or both whole) with the same general concept and side.
    With concept pooling the feature is the concept's, so it matches whatever stands beside it.
    Ignored: a whole against its own part; mirrored captions (same pair, other side); the same part
    of different concepts when their images are nearly identical. The rest is negative.

    Args:
        pairs: the batch, N pairs.
        pooling: where text features are read, for all captions, or one per caption (for its row).
        part_features_ND: image features of each pair's concept source alone, L2-normalised, float
            [N, D]; needed only to find nearly identical parts.
        identical_part_threshold: cosine from which two parts of different concepts count as
            identical; 1.0 switches it off.

    Returns:
        POSITIVE, NEGATIVE or IGNORED, int8 [captions N, images N], POSITIVE on the diagonal.
    """
    concept = _codes([pair.concept for pair in pairs])
    part = _codes([pair.part for pair in pairs])
    context = _codes([pair.context for pair in pairs])
    side = _codes([pair.side for pair in pairs])
    is_part = torch.tensor([pair.part is not None for pair in pairs])

    same_concept, same_part = _equal(concept), _equal(part)
    same_context, same_side = _equal(context), _equal(side)
    same_thing = same_concept & same_part
    poolings = [pooling] * len(pairs) if isinstance(pooling, str) else list(pooling)
    at_concept_N1 = torch.tensor([p == "concept" for p in poolings])[:, None]
    positive = same_thing & (at_concept_N1 | (same_context & same_side))

    ignored = same_concept & (is_part[:, None] != is_part[None, :])
    ignored |= same_thing & same_context & ~same_side
    if part_features_ND is not None and identical_part_threshold < 1.0:
        alike = part_features_ND @ part_features_ND.T >= identical_part_threshold
        both_parts = is_part[:, None] & is_part[None, :]
        # A pair with another context stays negative, unless the text feature is the part's alone.
        ignored |= both_parts & ~same_concept & (same_context | at_concept_N1) & alike.cpu()

    targets = torch.full((len(pairs), len(pairs)), NEGATIVE, dtype=torch.int8)
    targets[ignored] = IGNORED
    targets[positive] = POSITIVE
    return targets


def _codes(values: Sequence[str | None]) -> Tensor:
    """Number the distinct values: int64 [N], equal where the values are."""
    codes: dict[str | None, int] = {}
    return torch.tensor([codes.setdefault(value, len(codes)) for value in values])


def _equal(codes_N: Tensor) -> Tensor:
    return codes_N[:, None] == codes_N[None, :]
