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

Other tools' layouts are read by `formats.py`. Captions are given their concept's `<name>` here
(`captions.py`), and what was changed or left out is noted in the set's `intake`.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clif_exp.concepts.captions import place_concept
from clif_exp.concepts.checks import (
    concept_problems,
    name_problems,
    note_shared,
    shared_images,
)
from clif_exp.concepts.concept import Concept, ConceptImage, ConceptSet
from clif_exp.concepts.description import Description, short_path
from clif_exp.concepts.intake import CaptionChange, Intake
from clif_exp.concepts.wording import listing, visible


def read_concept_set(
    root: Path,
    *,
    size: int | None = None,
    names: Sequence[str] | None = None,
    download: str | None = None,
) -> ConceptSet:
    """Read and validate a concept set: `concepts.yaml`, or another tool's layout.

    Args:
        root: the set's folder, or the describing file itself.
        size: how many of the concepts to take (the first ones); None takes all.
        names: which concepts to take, in the order of the set; None takes all.
        download: how to get the set, for the message where it is missing.

    Returns:
        The checked set; every image in it can be opened.

    Raises:
        ValueError: the set's problems, one per line, with file, field, what was found and how to
            fix it; of very many the first ones.
    """
    root = Path(root).expanduser()
    try:
        return _read(root, size=size, names=names, download=download)
    except OSError as error:  # such as a path of more characters than the system allows
        path = visible(str(error.filename or root), 200)
        raise ValueError(
            f"dataset.root: '{path}' cannot be read ({error.strerror}). Correct or remove it."
        ) from error


def _read(
    root: Path, *, size: int | None, names: Sequence[str] | None, download: str | None
) -> ConceptSet:
    from clif_exp.concepts.formats import read_description

    try:
        found = read_description(root, download=download)
    except ValueError as error:
        raise ValueError(listing([str(error)])) from error
    problems, base = found.problems, root if root.is_dir() else root.parent
    if size is not None and size > len(found.concepts) and not problems:
        problems.append(
            f"{found.source}: dataset.size is {size}, but the set has {len(found.concepts)}"
            f" concepts. Choose 1 to {len(found.concepts)}, or dataset.size=null for all."
        )
    renamed = {} if found.named_by_user else _avoid_class_words(found.concepts)
    # A name used twice is wrong even if only a part of the set is requested.
    problems += name_problems(found.source, found.concepts)
    if names is None:
        taken = found.concepts[: size or None]
    else:
        chosen = {renamed.get(name, name) for name in names}
        problems += _unknown_names(chosen, found, renamed=renamed)
        taken = [concept for concept in found.concepts if concept.name in chosen]
    for concept in taken:
        problems += concept_problems(found.source, concept, base)
    problems += shared_images(found.source, taken, base)
    if problems:
        raise ValueError(listing(problems))
    concepts, intake = _place_captions(taken, base, aliases=renamed)
    intake = replace(
        intake,
        renamed=tuple(item for item in renamed.items() if item[1] in {c.name for c in taken}),
        concepts_left_out=tuple(c.name for c in found.concepts if c not in taken),
        notes=(*found.notes, *_outside(concepts, base)),
    )
    concepts = note_shared(concepts)
    return ConceptSet(name=found.name, root=base, concepts=tuple(concepts), intake=intake)


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


def _unknown_names(
    chosen: Collection[str], found: Description, *, renamed: Mapping[str, str]
) -> list[str]:
    """Say which of the chosen names no concept has."""
    known = [concept.name for concept in found.concepts]
    problems = []
    for name in sorted(set(chosen) - set(known)):
        near = difflib.get_close_matches(name, [*known, *renamed], n=3, cutoff=0.5)
        problems.append(
            f"dataset.names: '{visible(name)}' is no concept of {found.source}; choose from"
            f" {', '.join(near or known[:10])}{' ...' if near or len(known) > 10 else ''}"
        )
    return problems


def _avoid_class_words(concepts: list[Concept]) -> dict[str, str]:
    """Rename concepts that are called like a class word, in place; return old -> new names.

    DreamBench calls its first cat "cat": in captions nobody could tell the two apart.
    """
    renamed = {}
    words = {concept.class_word.lower() for concept in concepts}
    names = {concept.name for concept in concepts}
    for index, concept in enumerate(concepts):
        if concept.name in words:
            candidates = (f"{concept.name}_{number}" for number in itertools.count(1))
            name = next(name for name in candidates if name not in names | words)
            names.add(name)
            renamed[concept.name] = name
            concepts[index] = replace(concept, name=name)
    return renamed


def _place_captions(
    concepts: Sequence[Concept], base: Path, *, aliases: Mapping[str, str]
) -> tuple[list[Concept], Intake]:
    """Let every caption name its concept, or drop it; return the concepts and what was done."""
    placed, kept, changes = [], 0, []
    names = [concept.name for concept in concepts]
    for concept in concepts:
        images = []
        others = [name for name in names if name != concept.name]
        for image in concept.images:
            if image.caption and image.caption.strip():
                result = place_concept(image.caption, concept, others=others, aliases=aliases)
                if result.text == " ".join(image.caption.split()):
                    kept += 1
                else:
                    changes.append(
                        CaptionChange(
                            concept.name,
                            short_path(image.file, base),
                            visible(image.caption.strip(), 200),
                            result.text,
                            result.reason,
                        )
                    )
                image = replace(image, caption=result.text)
            images.append(image)
        placed.append(replace(concept, images=tuple(images)))
    return placed, Intake(captions_kept=kept, captions_changed=tuple(changes))


def _outside(concepts: Sequence[Concept], base: Path) -> list[str]:
    """Say which images are read from outside of the set's folder: allowed, but easily a slip."""
    notes = []
    for concept in concepts:
        files = [image.file.resolve() for image in concept.images]
        folders = sorted({file.parent for file in files if not file.is_relative_to(base.resolve())})
        if folders:
            more = f" and {len(folders) - 1} more folders" if len(folders) > 1 else ""
            notes.append(
                f"concept '{concept.name}': images are read from outside of dataset.root:"
                f" {visible(str(folders[0]), 200)}{more}"
            )
    return notes
