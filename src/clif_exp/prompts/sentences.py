"""From a sentence that names concepts as `<name>` to a prompt of the evaluation."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from clif_exp.prompts.articles import indefinite, with_article
from clif_exp.prompts.evaluation import EvaluationPrompt, Kind, Layout
from clif_exp.prompts.worlds import Split

MARKER = re.compile(r"<([^<>]*)>")
_SIDE = re.compile(r"\b(?:on|to|at) the (left|right)\b(?! of\b)", re.I)
_OPPOSITE = {"left": "right", "right": "left"}
_NAMES_IN_ID = 3  # ids are file names
_DETERMINERS = {"a", "an", "the", "one", "another", "each", "this", "that"}
_DETERMINERS |= {"my", "your", "our", "his", "her", "their", "its"}
# Before a concept: "the ", "a tall "
_ARTICLE = rf"(?: (?:{'|'.join(sorted(_DETERMINERS))})(?: \w+){{0,2}})?\s*$"
# "<a> left of <b>", "<a> on the right side of the big <b>"
_RELATION = re.compile(rf"\b(left|right)(?: side)? of{_ARTICLE}", re.I)
# Words between two concepts that put one where it covers the other, or on or above it; words before
# the first one and after the last one that do; and words for places that `sides_in` cannot read.
_NOT_BESIDE = re.compile(
    r"\b(?:aboard|above|atop|behind|below|beneath|carr(?:ied|ying)|dressed|giving|held|holding|in"
    r"|inside|into|lift(?:ed|ing)|on|onto|over|riding|under|underneath|upon|wearing)\b",
    re.I,
)
_BEFOREHAND = re.compile(
    rf"\b(?:above|behind|below|beneath|in front of|on top of|over|under){_ARTICLE}", re.I
)
_AFTERWARDS = re.compile(
    r"^[^,]*\b(?:behind|above|below|over|under|on)(?: (?:him|her|it|them|top)\b|"
    r" (?:his|her|its|their) (?:arms?|back|head|lap|shoulders?)\b|\s*$)",
    re.I,
)
_PLACED = re.compile(r"\b(?:left|right|between|middle|cent(?:er|re))\b", re.I)
# Between one of those and a concept they are no adjective, as in "the left <rick>".
_NO_ADJECTIVES = {"and", "as", "at", "behind", "beside", "by", "for", "from", "in", "into", "like"}
_NO_ADJECTIVES |= {"near", "of", "on", "or", "than", "to", "with", "left", "right"}


@dataclass(frozen=True)
class Sentence:
    """What a source of prompts gives.

    Attributes:
        text: the prompt, concepts as `<name>`.
        class_text: the same with class words.
        context: the place, where the source knows it.
    """

    text: str
    class_text: str
    context: str | None = None


def as_prompt(sentence: Sentence, *, seen: Set[frozenset[str]], split: Split) -> EvaluationPrompt:
    """Make a prompt of a sentence: prior, single or multi by the concepts that it names.

    Args:
        sentence: whose markers are all names of concepts.
        seen: the pairs that M-Aug shows (`concepts.pairs.seen_pairs`).
        split: what the prompt is for.

    Returns:
        The prompt; its id follows from its text, so that other prompts do not change it.
    """
    names = tuple(dict.fromkeys(MARKER.findall(sentence.text)))
    kind: Kind = "multi" if len(names) > 1 else "single" if names else "prior"
    sides = sides_in(sentence.text)
    layout: Layout = "context" if sentence.context else "free"
    if sides is not None:
        layout = "side" if len(names) == 2 else "row"
    pairs = map(frozenset, itertools.combinations(names, 2))
    return EvaluationPrompt(
        id=_id(kind, names, sentence.text),
        text=sentence.text,
        kind=kind,
        layout=layout,
        concepts=names,
        class_text=sentence.class_text,
        sides=sides,
        context=sentence.context,
        seen=all(pair in seen for pair in pairs) if kind == "multi" else None,
        split=split,
    )


def sides_in(text: str) -> tuple[str, ...] | None:
    """Read where a sentence puts its concepts; None where it leaves that open.

    Two concepts: "on the left" and "on the right" behind or before each of them, or one to the left
    (right) of the other. Three and more: "in a row", from left to right.
    """
    opening, *rest = MARKER.split(text)
    names, gaps = rest[::2], rest[1::2]
    if len(names) != len(set(names)):
        return None
    if len(names) > 2 and re.search(r"\bin a row\b", text):
        return tuple(str(index) for index in range(len(names)))
    if len(names) != 2:
        return None
    if relation := _RELATION.search(gaps[0]):
        side = relation[1].lower()
        return (side, _OPPOSITE[side])
    before, between, behind = (_SIDE.search(gap) for gap in (opening, *gaps))
    first, second = (before, between) if before else (between, behind)
    sides = tuple(found[1].lower() for found in (first, second) if found)
    if len(set(sides)) == 2:
        return sides
    return None


def left_to_right(text: str) -> list[str]:
    """Return the concepts of a sentence from left to right, as it puts or else names them.

    The list is empty where it names one concept only, where a word such as "behind", "in front of",
    "on", "riding" or "wearing" may put one where it covers another, or stands on or above it, and
    where it says places that cannot be read ("between", "<a> on the right and <b>").
    """
    opening, *rest = MARKER.split(text)
    names, gaps = list(dict.fromkeys(rest[::2])), rest[1::2]
    if len(names) < 2:
        return []
    if (sides := sides_in(text)) is not None:
        # "left" and "right", or numbers: shorter ones come first.
        return [name for _, name in sorted(zip(sides, names, strict=True), key=_by_place)]
    covering = [_BEFOREHAND.search(opening), _AFTERWARDS.search(gaps[-1])]
    covering += [_NOT_BESIDE.search(gap) for gap in gaps[:-1]]
    return [] if any(covering) or _PLACED.search(text) else names


def by_region(text: str) -> list[str]:
    """Return what the parts of an image read, from left to right (`guidance.regional`).

    That is the sentence with one concept in the place of all; nothing where `left_to_right` finds
    none.
    """
    return [MARKER.sub(f"<{name}>", text) for name in left_to_right(text)]


def divisible(prompts: Sequence[EvaluationPrompt], *, limit: int) -> list[EvaluationPrompt]:
    """Return prompts whose concepts stand side by side, interactions first: `limit` at most."""
    found = [prompt for prompt in prompts if left_to_right(prompt.text)]
    return sorted(found, key=lambda prompt: prompt.layout != "interaction")[:limit]


def _by_place(placed: tuple[str, str]) -> tuple[int, str]:
    side, _ = placed
    return len(side), side


def in_words(text: str, concepts: Mapping[str, str]) -> str:
    """Write class words for concepts: "of a man" for `of <rick>`, "the man" for `the <rick>`.

    Args:
        text: the sentence.
        concepts: name -> class word.
    """
    opening, *rest = MARKER.split(text)
    written = opening
    for gap, name, behind in zip([opening, *rest[1::2]], rest[::2], rest[1::2], strict=False):
        word, before = concepts[name], gap.lower().split()[-2:]
        if before and before[-1] in {"a", "an"}:
            article = indefinite(word).split()[0][1:]
            written = re.sub(r"(?i)(a)n?(\s+)$", rf"\g<1>{article}\g<2>", written)
        elif not _determined(before):
            word = with_article(word)
        written += word + behind
    return written


def _determined(before: list[str]) -> bool:
    """Whether the last two words before a concept give it a determiner: "the", "my old"."""
    if not before or before[-1] in _DETERMINERS:
        return bool(before)
    adjective = before[-1]
    return (
        len(before) == 2
        and before[0] in _DETERMINERS
        and adjective.isalpha()
        and adjective not in _NO_ADJECTIVES
        and not adjective.endswith("ing")
    )


def _id(kind: str, names: tuple[str, ...], text: str) -> str:
    more = [f"and_{len(names) - _NAMES_IN_ID}_more"] if len(names) > _NAMES_IN_ID else []
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return "-".join([kind, *names[:_NAMES_IN_ID], *more, digest])
