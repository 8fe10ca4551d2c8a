"""A concept set as it is described on disk, before it is checked; and what all layouts share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from clif_exp.concepts.concept import Concept
from clif_exp.concepts.documents import read_text
from clif_exp.concepts.images import IMAGE_SUFFIXES
from clif_exp.concepts.wording import visible

REMEDY = (
    "Put a concepts.yaml there, or Custom Diffusion's concepts_list.json, CustomConcept101's"
    " dataset.json, Mix-of-Show's data JSON, DreamBench's folders with prompts_and_classes.txt, or"
    " folders named '<name> <class word>' with images."
)


@dataclass
class Description:
    """What a layout's reader found.

    Attributes:
        source: name of the describing file, for messages.
        name: of the set.
        named_by_user: concepts carry names that the user chose for this program; others may be
            changed where they would not do.
        concepts: as described; no image has been opened.
        problems: found so far.
        notes: what had to be decided, in sentences.
    """

    source: str
    name: str
    named_by_user: bool = False
    concepts: list[Concept] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder, sorted by name."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )


def sidecar_caption(
    image: Path, problems: list[str], *, folder: Path | None = None, where: str = ""
) -> str | None:
    """Return what the .txt file beside an image says; None if there is none or it is empty.

    Args:
        image: the image.
        problems: takes what is wrong with the file.
        folder: where captions lie; None: beside the image.
        where: how the problem opens.
    """
    file = (folder or image.parent) / f"{image.stem}.txt"
    if not file.is_file():
        return None
    try:
        return read_text(file).strip() or None
    except ValueError as error:
        problems.append(f"{where}{error}")
        return None


def as_name(text: str) -> str:
    """Turn any label into a name: small letters, digits and _, a letter first."""
    slug = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")
    return slug if re.match(r"[a-z]", slug) else f"c_{slug}".rstrip("_")


def folder_label(folder: str) -> str:
    """Return what a folder of images calls its concept: `cat1` for `./cat1` and `cat1/images`."""
    path = Path(folder)
    return path.parent.name if path.name.lower() in {"image", "images"} else path.name


def locate(path: str, folder: Path) -> Path | None:
    """Find what is named relative to another tool's working directory, by its tail in `folder`."""
    parts = Path(path).parts
    if Path(path).is_absolute():
        return Path(path) if Path(path).exists() else None
    tails = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((tail for tail in tails if tail.exists()), None)


def short_path(file: Path, base: Path) -> str:
    """Write a file relative to the set's folder, if it lies there."""
    return visible(
        file.relative_to(base).as_posix() if file.is_relative_to(base) else str(file), 200
    )
