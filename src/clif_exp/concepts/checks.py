"""Checks of a described concept set, one line per problem: names, words, images, masks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clif_exp.artifacts.files import file_digest
from clif_exp.concepts.concept import Concept, ConceptImage
from clif_exp.concepts.description import short_path
from clif_exp.concepts.images import load_mask, load_rgb
from clif_exp.concepts.wording import shown

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]*")
MAX_NAME = 40  # characters; three of them stand in one file's name
MAX_WORDS, MAX_PHRASE = 5, 50  # words and characters of a class word or a part
MAX_PARTS = 30  # of one concept
MAX_CAPTION = 2_000  # characters; text encoders read 77 tokens


def name_problems(source: str, concepts: Sequence[Concept]) -> list[str]:
    """Return what is wrong with the concepts' names."""
    problems = []
    seen: set[str] = set()
    for concept in concepts:
        where = f"{source}: concept {shown(concept.name)}: name"
        if not NAME_PATTERN.fullmatch(concept.name):
            problems.append(
                f"{where} holds characters that no token name may."
                " Use a small letter first, then small letters, digits and _."
            )
        if len(concept.name) > MAX_NAME:
            problems.append(
                f"{where} has {len(concept.name)} characters. Use at most {MAX_NAME}: it is part of"
                " file names."
            )
        if concept.name in seen:
            problems.append(f"{where} is used twice. Give every concept its own name.")
        seen.add(concept.name)
    return problems


def concept_problems(source: str, concept: Concept, base: Path) -> list[str]:
    """Return what is wrong with a concept's class word, parts, images, masks and captions.

    Args:
        source: name of the describing file.
        concept: as described.
        base: the set's folder; messages name files relative to it.
    """
    where = f"{source}: concept {shown(concept.name)}"
    word = concept.class_word.strip()
    problems = []
    if not word:
        problems.append(
            f"{where}: class_word is empty. Say what it is in one or two words the base model"
            " knows, such as 'man'."
        )
    elif not re.fullmatch(r"[^\W\d_][\w' -]*", word):
        problems.append(
            f"{where}: class_word {shown(word)} is not made of words. Use plain words such as"
            " 'teddy bear'."
        )
    elif too_long := _too_long(word):
        problems.append(
            f"{where}: class_word {shown(word)} has {too_long}. It stands in every prompt: use one"
            " to three words such as 'teddy bear'."
        )
    if not concept.images:
        problems.append(f"{where}: images: none found. Add at least one image, better 4 to 6.")
    problems += _part_problems(where, concept.parts)
    for image in concept.images:
        problems += [f"{where}: {problem}" for problem in _image_problems(image, base)]
    return problems


def _part_problems(where: str, parts: Sequence[str]) -> list[str]:
    problems = []
    for part in parts:
        if not part.strip() or not part.isprintable():
            problems.append(
                f"{where}: parts: {shown(part)} is not a name. Use nouns such as 'hat'."
            )
        elif too_long := _too_long(part):
            problems.append(
                f"{where}: parts: {shown(part)} has {too_long}. Use short nouns such as 'hat'."
            )
    if len(set(parts)) < len(parts):
        problems.append(f"{where}: parts: a name is listed twice. List each part once.")
    if len(parts) > MAX_PARTS:
        problems.append(
            f"{where}: parts: found {len(parts)}. List the {MAX_PARTS} that matter most, or fewer."
        )
    return problems


def _too_long(phrase: str) -> str | None:
    """Say how long a phrase is if it is too long for a prompt."""
    if (words := len(phrase.split())) > MAX_WORDS:
        return f"{words} words"
    return f"{len(phrase)} characters" if len(phrase) > MAX_PHRASE else None


def shared_images(source: str, concepts: Sequence[Concept], base: Path) -> list[str]:
    """Refuse an image that is listed twice, unless each concept marks its own place in it."""
    problems = []
    seen: dict[bytes, tuple[Concept, ConceptImage]] = {}
    for concept in concepts:
        where = f"{source}: concept {shown(concept.name)}: "
        for image in concept.images:
            digest = file_digest(image.file) if image.file.is_file() else None
            if digest is None:
                continue
            first, earlier = seen.setdefault(digest, (concept, image))
            if earlier is image:
                continue
            same = f"is the same image as {short_path(earlier.file, base)}"
            place = f"{where}{short_path(image.file, base)} {same}"
            if first is concept:
                problems.append(f"{place}. Remove one.")
            elif not (image.marked and earlier.marked):
                problems.append(
                    f"{place} of concept {shown(first.name)}. Remove one, or give both a mask or a"
                    " box that shows which is which."
                )
    return problems


def note_shared(concepts: Sequence[Concept]) -> list[Concept]:
    """Note in which images, that `shared_images` has let pass, several concepts are marked."""
    times = Counter(
        file_digest(image.file) for of in concepts for image in of.images if image.marked
    )
    return [
        replace(
            concept,
            images=tuple(
                replace(image, shared=image.marked and times[file_digest(image.file)] > 1)
                for image in concept.images
            ),
        )
        for concept in concepts
    ]


def _image_problems(image: ConceptImage, base: Path) -> list[str]:
    file = short_path(image.file, base)
    try:
        width, height = load_rgb(image.file).size
    except ValueError as error:
        return [f"{file} {error}"]
    problems = []
    if len(image.caption or "") > MAX_CAPTION:
        problems.append(
            f"{file}: its caption has {len(image.caption or ''):,} characters. Write one or two"
            " sentences."
        )
    if image.mask is not None:
        try:
            load_mask(image.mask, size=(width, height))
        except ValueError as error:
            problems.append(f"{short_path(image.mask, base)} {error}")
    if image.point is not None and not (
        0 <= image.point[0] < width and 0 <= image.point[1] < height
    ):
        problems.append(
            f"{file}: point {list(image.point)} lies outside the image of {width} x {height} px."
            " Use [x, y] inside it."
        )
    if image.box is not None:
        x0, y0, x1, y1 = image.box
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            problems.append(
                f"{file}: box {list(image.box)} does not lie in the image of {width} x {height}"
                " px. Use [x0, y0, x1, y1]."
            )
    return problems
