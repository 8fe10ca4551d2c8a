"""Whether a set's names, class words, captions and prompts fit a base model's tokenizer."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from clif_exp.concepts.concept import ConceptSet
from clif_exp.concepts.wording import listing, visible

# Tokenizers with more words than this hold most first names anyway: there only real clashes count.
_CLOSED_VOCABULARY = 10_000


def check_against_tokenizer(
    concepts: ConceptSet,
    *,
    tokenizer: Any,
    words: Collection[str] = (),
    examples: Sequence[str] = (),
    all_by: str | None = None,
) -> None:
    """Refuse class words unknown to a tokenizer, and names that collide with its words.

    Args:
        concepts: the set.
        tokenizer: a transformers tokenizer, before concept tokens are added.
        words: all that the base model knows, where that is a closed list: a byte-pair vocabulary
            also holds the pieces that its words are made of.
        examples: class words that would do.
        all_by: the command that lists them all, where there is one.

    Raises:
        ValueError: every such class word and name, with the remedy.
    """
    vocabulary = tokenizer.get_vocab()
    own_words = {c.class_word.lower() for c in concepts.concepts} | {
        part.lower() for c in concepts.concepts for part in c.parts
    }
    problems = []
    for concept in concepts.concepts:
        where = f"concept '{concept.name}'"
        unknown = [
            word
            for word in concept.class_word.lower().split()
            if not (word in words if words else _knows(word, tokenizer, vocabulary))
        ]
        if unknown:
            problems.append(
                f"{where}: class_word '{concept.class_word}': the base model's tokenizer has no"
                f" word for {', '.join(unknown)}. Use a word it was trained"
                f" on{_hint(unknown[0], vocabulary, words=words, examples=examples)}."
                + (f" {all_by} lists them all." if all_by else "")
            )
        taken = [
            token for token in (f"<{concept.name}>", f"<{concept.name}>_1") if token in vocabulary
        ]
        is_word = (
            concept.name in words
            if words
            else len(vocabulary) < _CLOSED_VOCABULARY
            and (f"{concept.name}</w>" in vocabulary or concept.name in vocabulary)
        )
        if taken or is_word or concept.name in own_words:
            found = taken[0] if taken else concept.name
            problems.append(
                f"{where}: name '{concept.name}' collides with the word '{found}' of the captions"
                f" or the tokenizer. Rename it, for instance to 'my_{concept.name}'."
            )
    if problems:
        raise ValueError(listing(problems))


def check_lengths(
    concepts: ConceptSet,
    *,
    tokenizer: Any,
    num_tokens: int,
    read: Mapping[str, str],
    class_word: bool = False,
) -> None:
    """Refuse captions and prompts that the text encoder would cut.

    Args:
        concepts: the set.
        tokenizer: see above.
        num_tokens: what each `<name>` counts as.
        read: what images of the run read, concepts as `<name>` or as class words -> its prompt.
        class_word: `<name>` counts as its class word too.

    Raises:
        ValueError: names the image and its caption's length; or the prompt, and what lengthens it.
    """
    most = tokenizer.model_max_length
    names = {
        concept.name: "a " * num_tokens + (concept.class_word if class_word else "")
        for concept in concepts.concepts
    }
    for concept in concepts.concepts:
        for image in concept.images:
            length = _length(image.caption or "", tokenizer, names)
            if length > most:
                raise ValueError(
                    f"concept '{concept.name}': {visible(Path(image.file).name)}: its caption has"
                    f" {length} tokens, the text encoder reads {most}. Shorten it."
                )
    for text, prompt in read.items():
        length = _length(text, tokenizer, names)
        if length > most:
            where = (
                "" if text == prompt else ", read in a part of its image by generation.guidance,"
            )
            longest = max(concepts.concepts, key=lambda concept: len(concept.class_word))
            raise ValueError(
                f"generation.prompts: '{visible(prompt)}'{where} has {length} tokens, the text"
                f" encoder reads {most}. Shorten it where it is yours, or the class_word"
                f" '{longest.class_word}', or lower diffusion.num_tokens (found {num_tokens})."
            )


def _length(text: str, tokenizer: Any, names: Mapping[str, str]) -> int:
    for name, tokens in names.items():
        text = text.replace(f"<{name}>", tokens)
    return len(tokenizer(text, verbose=False).input_ids)  # else it warns in its own words


def _knows(word: str, tokenizer: Any, vocabulary: dict[str, int]) -> bool:
    if f"{word}</w>" in vocabulary:
        return True
    if len(vocabulary) < _CLOSED_VOCABULARY:
        return False
    pieces = tokenizer.tokenize(word)
    if not pieces or tokenizer.unk_token in pieces:
        return False
    # Byte-pair tokenizers spell out what they do not know, letter by letter: fewer than two letters
    # a piece is spelling.
    return len(word) / len(pieces) >= 2


def _hint(
    word: str, vocabulary: Mapping[str, int], *, words: Collection[str], examples: Sequence[str]
) -> str:
    """Name the word that was probably meant, or else words that would do."""
    known = words or [token.removesuffix("</w>") for token in vocabulary if token.endswith("</w>")]
    # Only slips of the finger: of other words that are spelt alike none means the same.
    near = [
        candidate
        for candidate in difflib.get_close_matches(word, known, n=8, cutoff=0.8)
        if candidate.isalpha() and len(candidate) >= min(4, len(word))
    ]
    if near:
        return f", such as {', '.join(near[:3])}"
    return f", such as {', '.join(examples)}" if examples else ""
