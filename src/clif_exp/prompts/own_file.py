"""Prompts from a text file of the user's: one per line, concepts as `<name>`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from clif_exp.concepts.documents import read_text
from clif_exp.concepts.wording import listing, visible
from clif_exp.prompts.sentences import MARKER, Sentence, in_words


def read_own_prompts(
    file: Path, *, concepts: Mapping[str, str], aliases: Mapping[str, str]
) -> list[Sentence]:
    """Read a prompt from every line that is neither empty nor begins with `#`.

    Args:
        file: the text file.
        concepts: name -> class word.
        aliases: what the file may write for a concept besides its name -> name.

    Raises:
        ValueError: every line that does not do, with its number; or there is no prompt.
    """
    sentences, problems = [], []
    first_on: dict[str, int] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        text = " ".join(line.split())
        if not text or text.startswith("#"):
            continue
        text = MARKER.sub(lambda found: f"<{aliases.get(found[1], found[1])}>", text)
        problem = _problem(text, concepts)
        if (first := first_on.setdefault(text, number)) != number:
            problem = (
                f"says the same as line {first}. Remove one; generation.seeds draws several images"
                " of a prompt."
            )
        if problem:
            problems.append(f"{file.name}: line {number}: {problem}")
        else:
            sentences.append(Sentence(text, in_words(text, concepts)))
    if not sentences and not problems:
        problems.append(
            f"{file.name}: holds no prompt. Write one per line, concepts as <name>, such as 'a"
            f" photo of <{next(iter(concepts))}>'."
        )
    if problems:
        raise ValueError(listing(problems))
    return sentences


def _problem(text: str, concepts: Mapping[str, str]) -> str | None:
    """Say what is wrong with a line; None if it will do."""
    for name in MARKER.findall(text):
        if name not in concepts:
            near = difflib.get_close_matches(name.lower(), concepts, n=1, cutoff=0.5)
            there = ", ".join(f"<{known}>" for known in list(concepts)[:10])
            remedy = f"did you mean <{near[0]}>?" if near else f"there are {there}."
            return f"<{visible(name)}> is no concept of this run; {remedy}"
    for mark in "<>{}":
        if mark in MARKER.sub("", text):
            return f"'{mark}' names no concept. Write concepts as <{next(iter(concepts))}>."
    return None
