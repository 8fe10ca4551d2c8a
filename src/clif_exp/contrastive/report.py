"""What stage 1 did to the concepts: distances, nearest words, and which ones get confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from clif_exp.contrastive.batches import PairBatches
    from clif_exp.contrastive.module import ContrastiveModule

# Captions that `retrieval_accuracy` reads at most: enough for shares, seconds for a large tower.
CAPTIONS = 512
OUTSIDE = 1.5  # Norms beyond this multiple of the vocabulary's 95th percentile are outside of it.
CLOSE = 0.5  # Pairs below this share of the mean distance are called likely to be confused.


def embedding_report(
    embeddings: Mapping[str, Mapping[str, Tensor]],
    *,
    text: Mapping[str, Mapping[str, Tensor]],
    table_VD: Tensor,
    words: Mapping[int, str],
    nearest: int = 5,
) -> dict[str, Any]:
    """Describe how the concepts moved.

    Args:
        embeddings: "before" and "after" -> concept -> embeddings, float [T, D].
        text: "before" and "after" -> concept -> text feature of "a photo of <concept>",
            L2-normalised, float [D].
        table_VD: the token table before training.
        words: token id -> word, for the ids that are ordinary words.
        nearest: words listed per concept.

    Returns:
        JSON-ready: `pairwise_distance` (1 - cosine of the concepts' mean embeddings, in [0, 2],
        nested [A][B]) and `text_distance` (of the text features), before and after;
        `closest_pairs` by text distance after, each `likely_confused` or not; `nearest_words`
        [(word, cosine)] before and after; `norm` (mean over a concept's tokens) before and after;
        `vocabulary_norm`, its `mean`, 95th percentile (`p95`) and `limit`, OUTSIDE times that;
        `outside_vocabulary`, the concepts whose norm after is beyond the limit.
    """
    ids = torch.tensor(sorted(words))
    vocabulary_VD = table_VD.detach().cpu().float()[ids]
    named = [words[int(i)].removesuffix("</w>") for i in ids]
    embedding_distance = {
        when: _distances({name: e.float().mean(dim=0) for name, e in by_concept.items()})
        for when, by_concept in embeddings.items()
    }
    text_distance = {when: _distances(features) for when, features in text.items()}
    return {
        "pairwise_distance": embedding_distance,
        "text_distance": text_distance,
        "closest_pairs": _closest_pairs(text_distance, embedding_distance["after"]),
        "nearest_words": {
            when: _nearest_words(by_concept, vocabulary_VD, named, count=nearest)
            for when, by_concept in embeddings.items()
        },
    } | _norms(embeddings, vocabulary_VD)


def _norms(embeddings: Mapping[str, Mapping[str, Tensor]], vocabulary_VD: Tensor) -> dict[str, Any]:
    """Return the concepts' norms beside the vocabulary's, and who is outside of it."""
    norm = {
        when: {name: round(float(e.norm(dim=1).mean()), 4) for name, e in by_concept.items()}
        for when, by_concept in embeddings.items()
    }
    norms_V = vocabulary_VD.norm(dim=1)
    high = float(norms_V.quantile(0.95))
    known = {"mean": float(norms_V.mean()), "p95": high, "limit": OUTSIDE * high}
    return {
        "norm": norm,
        "vocabulary_norm": {name: round(value, 4) for name, value in known.items()},
        "outside_vocabulary": [name for name, n in norm["after"].items() if n > known["limit"]],
    }


def _nearest_words(
    embeddings: Mapping[str, Tensor], vocabulary_VD: Tensor, words: list[str], *, count: int
) -> dict[str, list[tuple[str, float]]]:
    """Return concept -> the words whose embeddings are nearest to its mean, with their cosines."""
    unit_VD = F.normalize(vocabulary_VD, dim=-1)
    near = {}
    for name, embeddings_TD in embeddings.items():
        mean_D = F.normalize(embeddings_TD.float().mean(dim=0), dim=-1)
        top = (unit_VD @ mean_D).topk(min(count, len(words)))
        near[name] = [
            (words[i], round(value, 4))
            for i, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]
    return near


def _closest_pairs(
    text: Mapping[str, Any], embedding_distance: Mapping[str, Any], *, limit: int = 10
) -> list[dict[str, Any]]:
    """Return the pairs of concepts with the closest text features after training."""
    pairs = sorted(
        (value, a, b) for a, row in text["after"].items() for b, value in row.items() if a < b
    )
    mean = sum(value for value, _, _ in pairs) / len(pairs) if pairs else 0.0
    return [
        {
            "concepts": [a, b],
            "distance": value,
            "before": text["before"][a][b],
            "row_distance": embedding_distance[a][b],
            "likely_confused": value < CLOSE * mean,
        }
        for value, a, b in pairs[:limit]
    ]


@torch.no_grad()
def retrieval_accuracy(
    module: ContrastiveModule, batches: PairBatches, *, image_ND: Tensor
) -> dict[str, Any]:
    """Retrieve each caption's image among those that differ in the concept only.

    They have the same context, side and scale.

    Args:
        module: stage 1's.
        batches: of the same pairs.
        image_ND: L2-normalised image features of all pairs, float [N, D], on the CPU.

    Returns:
        JSON-ready: `accuracy`, the share of captions whose nearest image shows their concept;
        `chance`, what guessing would give; `mistaken`, [A, B, share of A's captions whose nearest
        image shows B], largest first.
    """
    asked: Counter[str] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    chance, read = 0.0, 0
    device = module.trained_weight.device  # before training Lightning does not know it
    for group in batches.order.groups:
        if read >= CAPTIONS:
            break
        members = [i for i in group if not batches.pairs[i].meta.stranger]
        concepts = [batches.pairs[i].meta.concept for i in members]
        if len(set(concepts)) < 2:
            continue
        batch = batches.batch(members)
        ids, positions = batch["ids"].to(device), batch["positions"].to(device)
        text_ND = module.text_features(ids, positions).float().cpu()
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
    """Return 1 - cosine of every two vectors, nested [A][B]."""
    unit_ND = F.normalize(torch.stack([vector.float() for vector in vectors.values()]), dim=-1)
    distance_NN = (1 - unit_ND @ unit_ND.T).fill_diagonal_(0).clamp(min=0)
    names = list(vectors)
    return {
        a: {b: round(float(distance_NN[i, j]), 5) for j, b in enumerate(names)}
        for i, a in enumerate(names)
    }


def random_displacement(
    *, before: Mapping[str, Tensor], after: Mapping[str, Tensor], seed: int
) -> dict[str, Tensor]:
    """Move every initial embedding as far as training moved it, but in a random direction.

    The control for what stage 1 teaches: it only pulls the embeddings apart.

    Args:
        before: concept -> initial embeddings, float [T, D].
        after: concept -> trained embeddings, float [T, D].
        seed: of the directions.

    Returns:
        Concept -> embeddings, float [T, D], whose displacements have the lengths of the trained
        ones.
    """
    generator = torch.Generator().manual_seed(seed)
    displaced = {}
    for name, initial_TD in before.items():
        length_T1 = (after[name] - initial_TD).norm(dim=1, keepdim=True)
        direction_TD = torch.randn(initial_TD.shape, generator=generator)
        displaced[name] = initial_TD + length_T1 * F.normalize(direction_TD, dim=1)
    return displaced
