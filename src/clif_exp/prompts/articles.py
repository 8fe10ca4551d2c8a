"""Indefinite articles of English noun phrases."""

from __future__ import annotations

import re

# Plurals and mass nouns that captions of parts and garments use.
_UNCOUNTED = {
    "arms",
    "boots",
    "clothes",
    "clothing",
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
    "pyjamas",
    "scissors",
    "shoes",
    "shorts",
    "slippers",
    "sneakers",
    "socks",
    "sunglasses",
    "trousers",
    "wings",
}

# words that begin with another sound than with their first letter's
_SPOKEN_OTHERWISE = re.compile(
    r"(?:uni(?!n|m)|u[sk]u|use|uten|eu|ewe|one\b|once|hour|honest|honou?r|heir)", re.IGNORECASE
)


def indefinite(noun: str) -> str:
    """Put "a" or "an" before a noun: "a cat", "an owl", "a unicorn", "an hourglass"."""
    vowel = noun[:1].lower() in "aeiou"
    return f"{'an' if vowel != bool(_SPOKEN_OTHERWISE.match(noun)) else 'a'} {noun}"


def with_article(noun: str) -> str:
    """Put "a" or "an" before a noun phrase, unless it has an article or takes none."""
    words = noun.split()
    if words[0] in {"a", "an", "the", "some"} or words[-1] in _UNCOUNTED:
        return noun
    return indefinite(noun)
