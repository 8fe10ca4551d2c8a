"""Concept tokens: their names, their embeddings in the token table, and the embeddings' files.

A concept ``rick`` with two tokens is ``<rick>`` and ``<rick>_1`` in the tokenizer (diffusers'
naming for textual inversions of several vectors). Prompts and manifests write ``<rick>`` only;
`expand_prompt` expands it to all of the concept's tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

EMBEDDINGS_FILE = "concept_embeddings.safetensors"
_PLACEHOLDER = re.compile(r"<([a-z][a-z0-9_]*)>(?!_\d)")


InitialWords = Literal["class_word", "rare_words", "noise_and_class_word"]


@dataclass(frozen=True)
class NewTokens:
    """What a concept consists of where no stage 1 has said it.

    Attributes:
        learnt: tokens per concept that may train.
        initial_words: what these start from: the class word; a rare word, another one for each
            concept; or noise, and the last one from the class word.
        class_word: the class word's own tokens follow them, and do not train.
    """

    learnt: int
    initial_words: InitialWords = "class_word"
    class_word: bool = False


def placeholder(name: str) -> str:
    """Return what prompts write for a concept: ``<rick>``."""
    return f"<{name}>"


def token_names(name: str, num_tokens: int) -> list[str]:
    """Return the tokenizer's names of a concept's tokens: ``["<rick>", "<rick>_1"]``."""
    return [placeholder(name)] + [f"{placeholder(name)}_{index}" for index in range(1, num_tokens)]


def expand_prompt(prompt: str, num_tokens: Mapping[str, int]) -> str:
    """Replace every concept's placeholder in a prompt by all of its tokens.

    ``expand_prompt("a photo of <rick>", {"rick": 2})`` is ``"a photo of <rick> <rick>_1"``.
    Placeholders of names that are not in ``num_tokens`` stay as they are.
    """

    def tokens(match: re.Match[str]) -> str:
        name = match.group(1)
        return (
            " ".join(token_names(name, num_tokens[name])) if name in num_tokens else match.group(0)
        )

    return _PLACEHOLDER.sub(tokens, prompt)


def add_concept_tokens(
    tokenizer: Any,
    text_encoder: Any,
    *,
    concepts: Mapping[str, str],
    num_tokens: int,
    initial_words: Mapping[str, str] | None = None,
    class_word: bool = False,
) -> dict[str, list[int]]:
    """Add the concepts' tokens to a tokenizer and a text encoder, initialised from words.

    Args:
        tokenizer: a CLIP tokenizer; grows in place.
        text_encoder: CLIPTextModel or CLIPTextModelWithProjection; its token table grows in place.
        concepts: concept name -> class word (one or more words of the tokenizer).
        num_tokens: tokens per concept that may be learnt, >= 1.
        initial_words: concept name -> the word that these start from; None: the class word.
        class_word: a copy of the class word's own tokens follows them ("<new1> cat", Kumari et al.
            2023), so that a concept is one word in every prompt whatever it consists of.

    Returns:
        Concept name -> token ids, in the order in which prompts hold them.

    Raises:
        ValueError: a token is already in the vocabulary, or a class word has no tokens.
    """
    import torch

    if num_tokens < 1:
        raise ValueError(f"num_tokens: found {num_tokens}; a concept needs at least 1 token.")
    embeddings = {}
    table = text_encoder.get_input_embeddings().weight
    for name, noun in concepts.items():
        noun_ids = tokenizer(noun, add_special_tokens=False).input_ids
        if not noun_ids:
            raise ValueError(
                f"concept '{name}': class word {noun!r} has no tokens. Give it an ordinary noun."
            )
        initial_ids = (
            tokenizer(initial_words[name], add_special_tokens=False).input_ids
            if initial_words
            else noun_ids
        )
        # The last piece of a class word of several pieces carries its meaning ("old man" -> "man").
        pieces = (initial_ids + [initial_ids[-1]] * num_tokens)[:num_tokens]
        pieces += noun_ids if class_word else []
        embeddings[name] = table.detach()[torch.tensor(pieces, device=table.device)].clone()
    return apply_concept_embeddings(tokenizer, text_encoder, embeddings)


def apply_concept_embeddings(
    tokenizer: Any, text_encoder: Any, embeddings: Mapping[str, Tensor]
) -> dict[str, list[int]]:
    """Add concepts with given embeddings to a tokenizer and a text encoder.

    Args:
        tokenizer: a CLIP tokenizer; grows in place.
        text_encoder: CLIPTextModel or CLIPTextModelWithProjection; its token table grows in place.
        embeddings: concept name -> its tokens' embeddings, float [T, D], D being the encoder's
            token width.

    Returns:
        Concept name -> token ids.

    Raises:
        ValueError: a token is already in the vocabulary, or the embeddings' width is not
            the encoder's.
    """
    import torch

    width = text_encoder.get_input_embeddings().weight.shape[1]
    vocabulary = tokenizer.get_vocab()
    for name, embeddings_TD in embeddings.items():
        if embeddings_TD.ndim != 2 or embeddings_TD.shape[1] != width:
            raise ValueError(
                f"embeddings of '{name}': found shape {tuple(embeddings_TD.shape)}, the text"
                f" encoder needs [tokens, {width}]. Were they trained for another base model?"
            )
        taken = [token for token in token_names(name, len(embeddings_TD)) if token in vocabulary]
        if taken:
            raise ValueError(
                f"concept '{name}': {taken[0]} is already a token of this tokenizer. Rename the"
                " concept."
            )
    ids: dict[str, list[int]] = {}
    for name, embeddings_TD in embeddings.items():
        names = token_names(name, len(embeddings_TD))
        tokenizer.add_tokens(names)
        ids[name] = tokenizer.convert_tokens_to_ids(names)
    table = text_encoder.get_input_embeddings().weight
    needed = max(len(tokenizer), table.shape[0])
    if needed > table.shape[0]:
        trainable = table.requires_grad
        text_encoder.resize_token_embeddings(needed, mean_resizing=False)
        table = text_encoder.get_input_embeddings().weight
        table.requires_grad_(trainable)
    with torch.no_grad():
        for name, embeddings_TD in embeddings.items():
            table[torch.tensor(ids[name], device=table.device)] = embeddings_TD.to(
                table.device, table.dtype
            )
    return ids


def save_concept_embeddings(path: Path, embeddings: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write ``{encoder: {concept: [T, D]}}`` as float32 safetensors.

    The keys are ``<encoder>.<concept>``.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {
        f"{encoder}.{name}": embeddings_TD.detach().to("cpu", torch.float32).contiguous().clone()
        for encoder, concepts in embeddings.items()
        for name, embeddings_TD in concepts.items()
    }
    save_file(tensors, str(path), metadata={"format": "pt"})


def load_concept_embeddings(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read what `save_concept_embeddings` wrote: ``{"text_encoder": {"rick": float32 [T, D]}}``.

    Raises:
        ValueError: the file is missing or its keys are not ``<encoder>.<concept>``.
    """
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file. Concept embeddings are published by the contrastive stage."
        )
    embeddings: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_file(str(path)).items():
        encoder, _, name = key.partition(".")
        if not name:
            raise ValueError(
                f"{path}: found key {key!r}, expected '<encoder>.<concept>'. Is it a concept"
                " embedding?"
            )
        embeddings.setdefault(encoder, {})[name] = tensor
    return embeddings


def tokenize(
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    num_tokens: Mapping[str, int],
    pad: Literal["longest", "max_length"] = "longest",
) -> torch.Tensor:
    """Tokenize prompts, every concept's placeholder replaced by its tokens.

    Args:
        tokenizer: a CLIP tokenizer that holds the concepts' tokens.
        prompts: prompts with placeholders.
        num_tokens: concept name -> number of tokens.
        pad: "longest" (to the longest prompt) or "max_length" (to the model's 77, as pipelines do).

    Returns:
        Token ids, int64 [B, L].

    Raises:
        ValueError: a prompt is longer than the text encoder reads; nothing is truncated.
    """
    expanded = [expand_prompt(prompt, num_tokens) for prompt in prompts]
    limit = tokenizer.model_max_length
    ids = tokenizer(expanded, padding=pad, return_tensors="pt").input_ids
    if ids.shape[1] > limit:
        lengths = [len(tokenizer(text).input_ids) for text in expanded]
        worst = max(range(len(lengths)), key=lengths.__getitem__)
        raise ValueError(
            f"prompt {prompts[worst]!r}: found {lengths[worst]} tokens, the text encoder reads"
            f" {limit}. Shorten it."
        )
    return ids
