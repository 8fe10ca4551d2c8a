"""Users' captions: each names its concept as `<name>` where it spoke of it, or is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clif_exp.concepts.concept import Concept

_MARKER = re.compile(r"<([^<>]+)>")
_PLACEHOLDER = re.compile(r"<tok>|\{\}", re.IGNORECASE)


@dataclass(frozen=True)
class Placed:
    """A caption as training uses it.

    Attributes:
        text: with the concept as `<name>`; None: it is left out.
        reason: why it is left out; None otherwise.
    """

    text: str | None
    reason: str | None = None


def place_concept(
    caption: str, concept: Concept, *, others: Sequence[str], aliases: Mapping[str, str]
) -> Placed:
    """Write `<name>` where a caption speaks of its concept.

    That is, in this order, where it says `<name>`, `<TOK>` (Mix-of-Show) or `{}`; the name in plain
    words; the class word, without its indefinite article, at its first mention. A caption that says
    none of them gets `<name>` at its end. One that names another concept but not its own is not
    taken: training would learn the other's name for this one's look.

    Args:
        caption: as the user wrote it.
        concept: of the image.
        others: names of the other concepts of the run.
        aliases: what a caption may write in `<...>` for a concept besides its name -> name.
    """
    named = f"<{concept.name}>"
    known = {name: name for name in (concept.name, *others)} | dict(aliases)

    def in_brackets(found: re.Match[str]) -> str:
        name = known.get(_simple(found[1]))
        return f"<{name}>" if name else found[0]

    text = _PLACEHOLDER.sub(named, " ".join(caption.split()))
    text = _MARKER.sub(in_brackets, text)
    for marker in _MARKER.findall(text):
        if marker not in (concept.name, *others):
            return Placed(None, f"names <{marker}>, which is no concept of this run")
    if named in text:
        return Placed(text)
    if (by_name := _mention(concept.name).sub(named, text)) != text:
        return Placed(by_name)
    for other in others:
        if f"<{other}>" in text or _mention(other).search(text):
            return Placed(None, f"names {other}, but not {concept.name}")
    by_class = re.compile(
        r"(?:\b(?:an?)\s+)?" + _mention(concept.class_word).pattern, re.IGNORECASE
    )
    if (placed := by_class.sub(named, text, count=1)) != text:
        return Placed(placed)
    return Placed(f"{text.rstrip(' .,;:!')}, {named}")


def _simple(marker: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "_", marker.lower()).strip("_")


def _mention(words: str) -> re.Pattern[str]:
    """A name or class word as captions write it: any case, spaces or hyphens for underscores."""
    parts = [re.escape(part) for part in re.split(r"[\s_]+", words.strip()) if part]
    return re.compile(r"(?<![\w<-])" + r"[\s_-]+".join(parts) + r"(?![\w>-])", re.IGNORECASE)
