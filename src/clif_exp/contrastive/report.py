"""What stage 1 did to the concepts: distances before and after, nearest words, and which of them
are likely to be confused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# that `mistaken_pairs` reads at most: enough for shares, seconds even where the tower is large
CAPTIONS = 512
CLOSE = 0.5  # of the mean distance: pairs below it are called likely to be confused


def embedding_report(
    rows: Mapping[str, Mapping[str, Tensor]],
    *,
    text: Mapping[str, Mapping[str, Tensor]],
    table_VD: Tensor,
    words: Mapping[int, str],
    nearest: int = 5,
) -> dict[str, Any]:
    """Describe how the concepts moved.

    Args:
        rows: "before" and "after" -> concept -> rows, float [T, D].
        text: "before" and "after" -> concept -> text feature of "a photo of <concept>",
            L2-normalised, float [D].
        table_VD: the token table before.
        words: token id -> word, for the ids that are ordinary words.
        nearest: words listed per concept.

    Returns:
        JSON-ready: `pairwise_distance` (1 - cosine of the concepts' mean rows, in [0, 2], nested
        [A][B]) and `text_distance` (of the text features), before and after; `closest_pairs` by
        text distance after, each `likely_confused` or not; `nearest_words` [(word, cosine)] before
        and after; `norm` and `vocabulary_norm`.
    """
    ids = torch.tensor(sorted(words))
    vocabulary_VD = table_VD.detach().cpu().float()[ids]
    named = [words[int(i)].removesuffix("</w>") for i in ids]
    row_distance = {
        when: _distances({n: r.float().mean(dim=0) for n, r in named_rows.items()})
        for when, named_rows in rows.items()
    }
    text_distance = {when: _distances(features) for when, features in text.items()}
    return {
        "pairwise_distance": row_distance,
        "text_distance": text_distance,
        "closest_pairs": _closest_pairs(text_distance, row_distance["after"]),
        "nearest_words": {
            when: _nearest_words(r, vocabulary_VD, named, count=nearest) for when, r in rows.items()
        },
        "norm": {name: round(float(r.norm(dim=1).mean()), 4) for name, r in rows["after"].items()},
        "vocabulary_norm": round(float(vocabulary_VD.norm(dim=1).mean()), 4),
    }


def _nearest_words(
    rows: Mapping[str, Tensor], vocabulary_VD: Tensor, words: list[str], *, count: int
) -> dict[str, list]:
    unit_VD = F.normalize(vocabulary_VD, dim=-1)
    near = {}
    for name, rows_TD in rows.items():
        top = (unit_VD @ F.normalize(rows_TD.float().mean(dim=0), dim=-1)).topk(
            min(count, len(words))
        )
        near[name] = [
            (words[i], round(value, 4))
            for i, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]
    return near


def _closest_pairs(
    text: Mapping[str, Any], row_distance: Mapping[str, Any], *, limit: int = 10
) -> list[dict[str, Any]]:
    pairs = sorted(
        (value, a, b) for a, row in text["after"].items() for b, value in row.items() if a < b
    )
    mean = sum(value for value, _, _ in pairs) / len(pairs) if pairs else 0.0
    return [
        {
            "concepts": [a, b],
            "distance": value,
            "before": text["before"][a][b],
            "row_distance": row_distance[a][b],
            "likely_confused": value < CLOSE * mean,
        }
        for value, a, b in pairs[:limit]
    ]


@torch.no_grad()
def mistaken_pairs(module, batches, *, image_ND: Tensor) -> dict[str, Any]:
    """Ask each caption for its image among those that differ from it in the concept only: same
    context, side and scale.

    Args:
        module: ContrastiveModule.
        batches: PairBatches of the same pairs.
        image_ND: L2-normalised image features of all pairs, float [N, D].

    Returns:
        JSON-ready: `accuracy`, the share of captions that find their own concept; `chance`, what
        guessing would give; `mistaken`, [A, B, share of A's captions that find B's image],
        largest first.
    """
    asked: Counter[str] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    chance, read = 0.0, 0
    for members in batches.order.groups:
        if read >= CAPTIONS:
            break
        concepts = [batches.pairs[i].meta.concept for i in members]
        if len(set(concepts)) < 2:
            continue
        batch = batches.batch(members)
        text_ND = (
            module.text_features(
                batch["ids"].to(module.device), batch["positions"].to(module.device)
            )
            .float()
            .cpu()
        )
        nearest = (text_ND @ image_ND[torch.as_tensor(members)].T).argmax(dim=1).tolist()
        for concept, index in zip(concepts, nearest, strict=True):
            asked[concept] += 1
            found[concept, concepts[index]] += 1
            chance += concepts.count(concept) / len(concepts)
        read += len(members)
    if not read:
        return {"accuracy": None, "chance": None, "mistaken": []}
    right = sum(count for (a, b), count in found.items() if a == b)
    wrong = sorted(
        ((count / asked[a], a, b) for (a, b), count in found.items() if a != b),
        key=lambda item: (-item[0], item[1:]),
    )
    return {
        "accuracy": round(right / read, 4),
        "chance": round(chance / read, 4),
        "mistaken": [[a, b, round(share, 4)] for share, a, b in wrong[:10]],
    }


def _distances(vectors: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    unit_ND = F.normalize(torch.stack([vector.float() for vector in vectors.values()]), dim=-1)
    distance_NN = (1 - unit_ND @ unit_ND.T).fill_diagonal_(0).clamp(min=0)
    names = list(vectors)
    return {
        a: {b: round(float(distance_NN[i, j]), 5) for j, b in enumerate(names)}
        for i, a in enumerate(names)
    }


def random_rows(
    *, before: Mapping[str, Tensor], after: Mapping[str, Tensor], seed: int
) -> dict[str, Tensor]:
    """Move every initial row as far as training moved it, but in a random direction: spread without
    contrast.

    The control that tells whether stage 1 helps by what it teaches or only by pulling the rows
    apart.

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
        spread[name] = rows_TD + length_T1 * F.normalize(
            torch.randn(rows_TD.shape, generator=generator), dim=1
        )
    return spread
