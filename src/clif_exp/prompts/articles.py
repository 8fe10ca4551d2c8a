"""Indefinite articles of English noun phrases."""

from __future__ import annotations

# Plurals and mass nouns that captions of parts and garments use.
_UNCOUNTED = {
    "arms",
    "boots",
    "clothes",
    "ears",
    "eyes",
    "feet",
    "fur",
    "glasses",
    "gloves",
    "goggles",
    "hair",
    "hands",
    "headphones",
    "jeans",
    "leggings",
    "legs",
    "pants",
    "scissors",
    "shoes",
    "shorts",
    "socks",
    "sunglasses",
    "trousers",
    "wings",
}


def indefinite(noun: str) -> str:
    """Put "a" or "an" before a noun: "a cat", "an owl"."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def with_article(noun: str) -> str:
    """Put "a" or "an" before a noun phrase, unless it has an article or takes none."""
    words = noun.split()
    if words[0] in {"a", "an", "the", "some"} or words[-1] in _UNCOUNTED:
        return noun
    return indefinite(noun)
