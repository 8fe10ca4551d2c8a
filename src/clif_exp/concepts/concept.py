"""The types of a concept set."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from clif_exp.artifacts.files import file_digest
from clif_exp.concepts.intake import Intake

TRUTH_FILE = "truth.json"  # beside concepts.yaml, of ToonWorld's sets: which attributes they have


@dataclass(frozen=True)
class ConceptImage:
    """One reference image.

    `caption` names the concept as `<name>`, once a set is read (`captions.py`). `point` (x, y) and
    `box` (x0, y0, x1, y1) are px of the upright image. `shared`: another concept of the set is
    marked in the same photograph.
    """

    file: Path
    mask: Path | None = None
    caption: str | None = None
    point: tuple[int, int] | None = None
    box: tuple[int, int, int, int] | None = None
    shared: bool = False

    @property
    def marked(self) -> bool:
        """Whether the user has said where in the photograph the concept is."""
        return any(mark is not None for mark in (self.mask, self.box, self.point))


@dataclass(frozen=True)
class Concept:
    """A thing to teach: `name` becomes the token `<name>`; the base model calls it `class_word`."""

    name: str
    class_word: str
    images: tuple[ConceptImage, ...]
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConceptSet:
    """Concepts that are customised together, in the order in which the user listed them.

    `intake` says what was rewritten or left out of what the user gave.
    """

    name: str
    root: Path
    concepts: tuple[Concept, ...]
    intake: Intake = field(default_factory=Intake, compare=False)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) over all concepts and file contents, but no paths."""
        record = [
            {
                "name": concept.name,
                "class_word": concept.class_word,
                "parts": concept.parts,
                "images": [
                    [
                        _digest(image.file),
                        _digest(image.mask),
                        image.caption,
                        image.point,
                        image.box,
                        *(["shared"] if image.shared else []),
                    ]
                    for image in concept.images
                ],
            }
            for concept in self.concepts
        ]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the concepts' names, in order."""
        return tuple(concept.name for concept in self.concepts)


def _digest(file: Path | None) -> str | None:
    return None if file is None else file_digest(file).hex()
