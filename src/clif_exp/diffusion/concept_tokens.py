"""The concepts' tokens in the text encoders of stage 2: put in, and published."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clif_exp.base_models.layerwise import TrainedEmbeddings
from clif_exp.base_models.loading import text_encoders_of
from clif_exp.base_models.rare_words import rare_words
from clif_exp.base_models.text_tuning import apply_text_tuning
from clif_exp.base_models.tokens import (
    NewTokens,
    add_concept_tokens,
    apply_concept_embeddings,
    load_concept_embeddings,
)

if TYPE_CHECKING:
    from torch import Tensor

    from clif_exp.concepts.concept import ConceptSet

TokenIds = Mapping[str, Mapping[str, list[int]]]
"""Text encoder -> concept -> ids of its tokens."""


def known_words(world: str) -> frozenset[str]:
    """Return all words that a base model knows, where they are a closed list; else none."""
    if world != "toonworld":
        return frozenset()
    from clif_exp.toonworld.grammar import VOCABULARY

    return frozenset(VOCABULARY)


def insert_concepts(
    pipeline: Any,
    concepts: ConceptSet,
    *,
    embeddings: Path | None,
    tokens: NewTokens,
    world: str,
    seed: int = 0,
) -> dict[str, dict[str, list[int]]]:
    """Add the concepts' tokens, and what stage 1 changed, to every text encoder of a pipeline.

    Args:
        pipeline: changes in place.
        concepts: whose tokens.
        embeddings: file of stage 1; None: they are new.
        tokens: what new ones are.
        world: what the base model knows, whose words are not rare.
        seed: of embeddings that start from noise.

    Returns:
        Text encoder -> concept -> ids of its tokens.

    Raises:
        ValueError: the file lacks a concept or an encoder.
    """
    encoders = text_encoders_of(pipeline)
    if embeddings is None:
        return {
            name: _add_new(tokenizer, encoder, concepts, tokens=tokens, world=world, seed=seed)
            for name, (tokenizer, encoder) in encoders.items()
        }
    trained = load_concept_embeddings(embeddings)
    ids = {}
    for name, (tokenizer, encoder) in encoders.items():
        own = trained.get(name, {})
        for concept in concepts.concepts:
            if concept.name not in own:
                raise ValueError(
                    f"{embeddings}: holds no embedding of '{concept.name}' for {name}. It belongs"
                    " to another concept set or model."
                )
        ids[name] = apply_concept_embeddings(
            tokenizer, encoder, {concept.name: own[concept.name] for concept in concepts.concepts}
        )
    apply_text_tuning(embeddings.parent, {name: encoder for name, (_, encoder) in encoders.items()})
    return ids


def _add_new(
    tokenizer: Any,
    text_encoder: Any,
    concepts: ConceptSet,
    *,
    tokens: NewTokens,
    world: str,
    seed: int,
) -> dict[str, list[int]]:
    rare = None
    if tokens.initial_words == "rare_words":
        words = rare_words(tokenizer, len(concepts.concepts), known=known_words(world))
        rare = dict(zip(concepts.names, words, strict=True))
    spread = float(text_encoder.get_input_embeddings().weight.float().std())
    ids = add_concept_tokens(
        tokenizer,
        text_encoder,
        concepts={concept.name: concept.class_word for concept in concepts.concepts},
        num_tokens=tokens.learnt,
        initial_words=rare,
        class_word=tokens.class_word,
    )
    if tokens.initial_words == "noise_and_class_word":
        for name, own in ids.items():
            noisy = own[: tokens.learnt - 1]
            _fill_with_noise(text_encoder, noisy, spread=spread, seed=f"{seed}:{name}")
    return ids


@torch.no_grad()
def _fill_with_noise(text_encoder: Any, ids: Sequence[int], *, spread: float, seed: str) -> None:
    """Draw embeddings of the vocabulary's own spread, the same for a concept in whatever set.

    In SD 1.5 that spread is the published 0.013.
    """
    table = text_encoder.get_input_embeddings().weight
    digest = hashlib.sha256(seed.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    noise = torch.randn((len(ids), table.shape[1]), generator=generator)
    table[list(ids)] = (noise * spread).to(table.device, table.dtype)


def published_embeddings(
    pipeline: Any,
    token_ids: TokenIds,
    *,
    trained: Mapping[str, TrainedEmbeddings],
    embeddings: Path | None,
) -> dict[str, dict[str, Tensor]]:
    """Return text encoder -> concept -> embeddings [T, D], as trained or as given.

    Read from where they are in fp32: the token tables may hold them in half precision.

    Args:
        pipeline: with the concepts.
        token_ids: from `insert_concepts`.
        trained: text encoder -> trained embeddings; empty if they were frozen.
        embeddings: file of stage 1, or None.
    """
    if trained:
        return {name: held.by_concept() for name, held in trained.items()}
    if embeddings is not None:
        given = load_concept_embeddings(embeddings)
        return {
            name: {concept: given[name][concept] for concept in concepts}
            for name, concepts in token_ids.items()
        }
    return {
        name: {
            concept: encoder.get_input_embeddings().weight[ids]
            for concept, ids in token_ids[name].items()
        }
        for name, (_, encoder) in text_encoders_of(pipeline).items()
    }
