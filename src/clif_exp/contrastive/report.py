"""What stage 1 did to the concept embeddings: distances before and after, nearest words, likely confusions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def embedding_report(
    *, before: Mapping[str, Tensor], after: Mapping[str, Tensor], table_VD: Tensor, words: Mapping[int, str], nearest: int = 5
) -> dict[str, Any]:
    """Describe how the concepts' rows moved.

    Args:
        before: concept -> initial rows, float [T, D].
        after: concept -> trained rows, float [T, D].
        table_VD: the token table.
        words: token id -> word, for the ids that are ordinary words.
        nearest: words listed per concept.

    Returns:
        JSON-ready: `pairwise_distance` (1 - cosine of the concepts' mean rows, in [0, 2], nested [A][B]) before and after,
        `closest_pairs` after, `nearest_words` [(word, cosine)], `norm` and `vocabulary_norm`.
    """
    ids = torch.tensor(sorted(words))
    vocabulary_VD = F.normalize(table_VD.detach().cpu().float()[ids], dim=-1)
    near = {}
    for name, rows_TD in after.items():
        cosine_V = vocabulary_VD @ F.normalize(rows_TD.mean(dim=0), dim=-1)
        top = cosine_V.topk(min(nearest, len(ids)))
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        near[name] = [(words[int(ids[i])].removesuffix("</w>"), round(value, 4)) for i, value in pairs]
    distances = _distances(after)
    closest = sorted((value, a, b) for a, row in distances.items() for b, value in row.items() if a < b)
    return {
        "pairwise_distance": {"before": _distances(before), "after": distances},
        "closest_pairs": [{"concepts": [a, b], "distance": value} for value, a, b in closest[:10]],
        "nearest_words": near,
        "norm": {name: round(float(rows.norm(dim=1).mean()), 4) for name, rows in after.items()},
        "vocabulary_norm": round(float(table_VD.detach().cpu().float()[ids].norm(dim=1).mean()), 4),
    }


def _distances(rows: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    mean_ND = F.normalize(torch.stack([r.float().mean(dim=0) for r in rows.values()]), dim=-1)
    distance_NN = 1 - mean_ND @ mean_ND.T
    names = list(rows)
    return {a: {b: round(float(distance_NN[i, j]), 5) for j, b in enumerate(names)} for i, a in enumerate(names)}


def random_rows(*, before: Mapping[str, Tensor], after: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Move every initial row as far as training moved it, but in a random direction: spread without contrast.

    The control that tells whether stage 1 helps by what it teaches or only by pulling the rows apart.

    Args:
        before: concept -> initial rows, float [T, D].
        after: concept -> trained rows, float [T, D].
        seed: of the directions.

    Returns:
        Concept -> rows, float [T, D], whose displacements have the lengths of the trained ones.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = {}
    for name, rows_TD in before.items():
        length_T1 = (after[name] - rows_TD).norm(dim=1, keepdim=True)
        spread[name] = rows_TD + length_T1 * F.normalize(torch.randn(rows_TD.shape, generator=generator), dim=1)
    return spread
