"""ToonWorld's CLIP tokenizer: byte-level BPE like CLIP's own, one token per word of the world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

MAX_LENGTH = 77  # as Stable Diffusion's: exports and prompt checks then behave alike

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(words: Iterable[str]) -> Any:
    """Build a `CLIPTokenizer` whose merges make each of `words` a single token.

    Any other text is encoded in bytes, as by CLIP's own tokenizer. The ids of BOS and EOS are the
    last two, as in CLIP; an EOS of 2 would make transformers pool at the highest id.

    Args:
        words: lower-case words, in any order; duplicates do no harm.

    Returns:
        `transformers.CLIPTokenizer` with `model_max_length` 77, padding with EOS as Stable
        Diffusion 1.5 does.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    merges = byte_pair_merges(words)
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [
        *alphabet,
        *(f"{character}</w>" for character in alphabet),
        *("".join(pair) for pair in merges),
        BOS,
        EOS,
    ]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_LENGTH)  # type: ignore[arg-type]  # stub: files only


def byte_pair_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Merge the most frequent pair of neighbours until every word is one token (Sennrich 2016).

    The library's trainer breaks ties in another order in every process; here they fall to the
    alphabet, so that the same words always get the same ids.

    Args:
        words: ASCII words, in any order; duplicates do no harm.

    Returns:
        The pairs, in the order in which they were merged; a word's end carries "</w>".
    """
    spelt = [[*word[:-1], f"{word[-1]}</w>"] for word in sorted(set(words))]
    counts = Counter(pair for parts in spelt for pair in pairwise(parts))
    merges: list[tuple[str, str]] = []
    while counts := +counts:
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        for parts in spelt:
            if best in pairwise(parts):
                counts.subtract(pairwise(parts))
                _merge(parts, best)
                counts.update(pairwise(parts))
    return merges


def _merge(parts: list[str], pair: tuple[str, str]) -> None:
    """Join every occurrence of a pair, in place."""
    place = 0
    while place < len(parts) - 1:
        if (parts[place], parts[place + 1]) == pair:
            parts[place : place + 2] = ["".join(pair)]
        place += 1
