"""From a sentence that names concepts as `<name>` to a prompt of the evaluation."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass

from clif_exp.prompts.articles import indefinite, with_article
from clif_exp.prompts.evaluation import EvaluationPrompt, Kind, Layout
from clif_exp.prompts.worlds import Split

MARKER = re.compile(r"<([^<>]*)>")
_SIDE = re.compile(r"\b(?:on|to|at) the (left|right)\b(?! of\b)")
_RELATION = re.compile(r"\b(left|right) of\s*$")  # "<a> left of <b>", "<a> on the right of <b>"
_OPPOSITE = {"left": "right", "right": "left"}
_NAMES_IN_ID = 3  # ids are file names
_DETERMINERS = {"a", "an", "the", "one", "another", "each", "this", "that"}
_DETERMINERS |= {"my", "your", "our", "his", "her", "their", "its"}
# "<a> sitting on the <b>": what comes after these is no neighbour.
_NOT_BESIDE = re.compile(
    r"\b(?:above|atop|behind|below|beneath|carrying|holding|in|in front of|inside|into|on"
    r"|on the back of|on top of|over|riding|under|wearing)"
    rf"(?: (?:{'|'.join(sorted(_DETERMINERS))}))?\s*$"
)
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
        return (relation[1], _OPPOSITE[relation[1]])
    before, between, behind = (_SIDE.search(gap) for gap in (opening, *gaps))
    first, second = (before, between) if before else (between, behind)
    if first and second and first[1] != second[1]:
        return (first[1], second[1])
    return None


def left_to_right(text: str) -> list[str]:
    """Return the concepts of a sentence from left to right, as it or its order puts them.

    None of them are returned where it names one concept only, or puts one where it covers another
    or stands above or below it ("behind", "riding", "wearing").
    """
    _, *rest = MARKER.split(text)
    names = list(dict.fromkeys(rest[::2]))
    if len(names) < 2:
        return []
    if (sides := sides_in(text)) is not None:
        # "left" and "right", or numbers: shorter ones come first.
        return [name for _, name in sorted(zip(sides, names, strict=True), key=_by_place)]
    return [] if any(_NOT_BESIDE.search(gap) for gap in rest[1:-2:2]) else names


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
