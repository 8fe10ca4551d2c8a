"""ToonWorld's CLIP tokenizer: byte-level BPE like CLIP's own, one token per word of the world."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MAX_LENGTH = 77  # as Stable Diffusion's: exports and prompt checks then behave alike

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(words: Iterable[str]) -> Any:
    """Train a `CLIPTokenizer` whose merges make each of `words` a single token.

    Any other text is encoded in bytes, as by CLIP's own tokenizer. The ids of BOS and EOS are the
    last two, as in CLIP; an EOS of 2 would make transformers pool at the highest id.

    Args:
        words: lower-case words, in any order; duplicates do no harm.

    Returns:
        `transformers.CLIPTokenizer` with `model_max_length` 77, padding with EOS as Stable
        Diffusion 1.5 does.
    """
    import json

    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=30_000,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(sorted(set(words)), trainer)
    trained = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in trained["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = (
        alphabet + [f"{c}</w>" for c in alphabet] + ["".join(pair) for pair in merges] + [BOS, EOS]
    )
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_LENGTH)  # type: ignore[arg-type]  # stub: files only
