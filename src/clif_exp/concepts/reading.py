"""Concept sets, read and checked in full before anything expensive.

The native form is a folder with `concepts.yaml`:

    name: my_concepts                # optional
    concepts:
      - name: rick                   # the token <rick>: small letters, digits and _
        class_word: man              # what it is, in the base model's words
        images: images/rick          # a folder, or a list of files, or of
                                     # {file, mask, caption, point, box}
        masks: masks/rick            # optional: a folder with the images' stems, or a list
        captions: [...]              # optional: one per image
        parts: [hat, jacket]         # optional: what a captioner would otherwise list

Other tools' layouts are read by `formats.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import file_digest
from clif_exp.concepts.concept import Concept, ConceptImage, ConceptSet
from clif_exp.concepts.images import load_mask, load_rgb

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]*")
# Tokenizers with more words than this hold most first names anyway: there only real clashes count.
_CLOSED_VOCABULARY = 10_000


def read_concept_set(root: Path, *, size: int | None = None) -> ConceptSet:
    """Read and validate a concept set: `concepts.yaml`, or another tool's layout.

    Args:
        root: the set's folder, or the describing file itself.
        size: how many of the concepts to take (the first ones); None takes all.

    Returns:
        The checked set; every image in it can be opened.

    Raises:
        ValueError: every problem of the set, one per line, with file, field, what was found and
            how to fix it.
    """
    from clif_exp.concepts.formats import read_description

    root = Path(root).expanduser()
    source, name, concepts, problems = read_description(root)
    if size is not None and not 1 <= size <= max(len(concepts), 1):
        problems.append(
            f"{source}: dataset.size is {size}, but there are {len(concepts)} concepts. Choose 1 to"
            f" {len(concepts)}."
        )
    # A name used twice is wrong even if only a part of the set is requested.
    problems += _name_problems(source, concepts)
    concepts = concepts[: size or None]
    for concept in concepts:
        problems += _concept_problems(source, concept, root)
    if problems:
        raise ValueError("\n".join(problems))
    return ConceptSet(
        name=name, root=root if root.is_dir() else root.parent, concepts=tuple(concepts)
    )


def check_against_tokenizer(concepts: ConceptSet, *, tokenizer: Any) -> None:
    """Refuse class words unknown to a tokenizer, and names that collide with its words.

    Args:
        concepts: the set.
        tokenizer: a transformers tokenizer, before concept tokens are added.

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
            if not _knows(word, tokenizer, vocabulary)
        ]
        if unknown:
            problems.append(
                f"{where}: class_word '{concept.class_word}': the base model's tokenizer has no"
                f" word for {', '.join(unknown)}. Use a word it was trained"
                f" on{_nearest(unknown[0], vocabulary)}."
            )
        taken = [
            token for token in (f"<{concept.name}>", f"<{concept.name}>_1") if token in vocabulary
        ]
        is_word = len(vocabulary) < _CLOSED_VOCABULARY and (
            f"{concept.name}</w>" in vocabulary or concept.name in vocabulary
        )
        if taken or is_word or concept.name in own_words:
            found = taken[0] if taken else concept.name
            problems.append(
                f"{where}: name '{concept.name}' collides with the word '{found}' of the captions"
                f" or the tokenizer. Rename it, for instance to 'my_{concept.name}'."
            )
    if problems:
        raise ValueError("\n".join(problems))


def write_concepts_yaml(
    root: Path, *, concepts: Sequence[Concept], name: str | None = None
) -> Path:
    """Write `root/concepts.yaml`; images and masks must lie below `root`.

    Args:
        root: the set's folder.
        concepts: what to list, in order.
        name: the set's name; the folder's name if None.

    Returns:
        The file written.
    """
    import yaml

    def line(image: ConceptImage) -> Any:
        fields: dict[str, Any] = {"file": image.file.relative_to(root).as_posix()}
        if image.mask is not None:
            fields["mask"] = image.mask.relative_to(root).as_posix()
        if image.caption is not None:
            fields["caption"] = image.caption
        fields |= {
            key: list(value)
            for key in ("point", "box")
            if (value := getattr(image, key)) is not None
        }
        return fields if len(fields) > 1 else fields["file"]

    record: dict[str, Any] = {"name": name or root.name, "concepts": []}
    for concept in concepts:
        entry: dict[str, Any] = {
            "name": concept.name,
            "class_word": concept.class_word,
            "images": [line(i) for i in concept.images],
        }
        if concept.parts:
            entry["parts"] = list(concept.parts)
        record["concepts"].append(entry)
    file = root / "concepts.yaml"
    file.write_text(
        yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8"
    )
    return file


def _name_problems(source: str, concepts: Sequence[Concept]) -> list[str]:
    problems = []
    seen: set[str] = set()
    for concept in concepts:
        if not NAME_PATTERN.fullmatch(concept.name):
            problems.append(
                f"{source}: concept '{concept.name}': name holds characters that no token name may."
                " Use a small letter first, then small letters, digits and _."
            )
        if concept.name in seen:
            problems.append(
                f"{source}: concept '{concept.name}': name is used twice. Give every concept its"
                " own name."
            )
        seen.add(concept.name)
    return problems


def _concept_problems(source: str, concept: Concept, root: Path) -> list[str]:
    where = f"{source}: concept '{concept.name}'"
    problems = []
    if not concept.class_word.strip():
        problems.append(
            f"{where}: class_word is empty. Say what it is in one or two words the base model"
            " knows, such as 'man'."
        )
    elif not re.fullmatch(r"[^\W\d_][\w' -]*", concept.class_word.strip()):
        problems.append(
            f"{where}: class_word '{concept.class_word}' is not made of words. Use plain words such"
            " as 'teddy bear'."
        )
    if not concept.images:
        problems.append(f"{where}: images: none found. Add at least one image, better 4 to 6.")
    problems += [
        f"{where}: parts: '{part}' is not a name. Use short nouns such as 'hat'."
        for part in concept.parts
        if not part.strip()
    ]
    if len(set(concept.parts)) < len(concept.parts):
        problems.append(f"{where}: parts: a name is listed twice. List each part once.")
    seen: dict[bytes, Path] = {}
    for image in concept.images:
        problems += [f"{where}: {problem}" for problem in _image_problems(image, root)]
        digest = file_digest(image.file) if image.file.is_file() else None
        if digest and digest in seen:
            problems.append(
                f"{where}: {_short(image.file, root)} is the same image as"
                f" {_short(seen[digest], root)}. Remove one."
            )
        elif digest:
            seen[digest] = image.file
    return problems


def _image_problems(image: ConceptImage, root: Path) -> list[str]:
    file = _short(image.file, root)
    try:
        width, height = load_rgb(image.file).size
    except ValueError as error:
        return [f"{file} {error}"]
    problems = []
    if image.mask is not None:
        try:
            load_mask(image.mask, size=(width, height))
        except ValueError as error:
            problems.append(f"{_short(image.mask, root)} {error}")
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


def _nearest(word: str, vocabulary: dict[str, int]) -> str:
    import difflib

    words = [
        token.removesuffix("</w>")
        for token in vocabulary
        if token.endswith("</w>") and len(token) > 6
    ]
    near = difflib.get_close_matches(word, words, n=3)
    return f", such as {', '.join(near)}" if near else ""


def _short(file: Path, root: Path) -> str:
    base = root if root.is_dir() else root.parent
    return file.relative_to(base).as_posix() if file.is_relative_to(base) else str(file)
