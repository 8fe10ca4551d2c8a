"""Words that mean next to nothing to a text encoder, for concepts to start from.

DreamBooth (Ruiz et al. 2023, section 3.2) looks rare tokens of three letters up in the vocabulary:
a word with a meaning of its own would colour the concept. Custom Diffusion starts its new tokens
from such words.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

# What the two papers' released code uses, as far as CLIP's tokenizer has them as one token.
_PUBLISHED = ("sks", "ktn", "pll", "ucd")
_LETTERS = 3


def rare_words(tokenizer: Any, count: int, *, known: Collection[str] = ()) -> list[str]:
    """Return words of one token each, the published ones first, then rare ones of three letters.

    Byte-pair vocabularies are ordered by frequency, so the last ids are the rarest. Letters without
    a vowel come before others, which may spell a word.

    Args:
        tokenizer: a CLIP tokenizer.
        count: how many, all different.
        known: words with a meaning that are no candidates, where the base model's are a closed
            list.

    Raises:
        ValueError: the vocabulary has fewer.
    """
    vocabulary = tokenizer.get_vocab()
    candidates = {
        token.removesuffix("</w>"): index
        for token, index in vocabulary.items()
        if token.endswith("</w>")
    }
    spelt = [
        word
        for word in candidates
        if len(word) == _LETTERS and word.isascii() and word.isalpha() and word.islower()
    ]
    rarest = sorted(spelt, key=lambda word: (bool(set(word) & set("aeiouy")), -candidates[word]))
    published = [word for word in _PUBLISHED if word in candidates]
    words = [word for word in dict.fromkeys(published + rarest) if word not in known]
    if len(words) < count:
        raise ValueError(
            f"diffusion.initial_words: found 'rare_words' for {count} concepts, but the tokenizer"
            f" has {len(words)} rare words of {_LETTERS} letters; use initial_words=class_word, or"
            " fewer concepts (dataset.size)."
        )
    return words[:count]
