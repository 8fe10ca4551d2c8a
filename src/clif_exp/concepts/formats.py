"""The layouts of concept sets: `concepts.yaml`, and those of other tools.

Each reader returns concepts as described, without opening an image; `reading.py` checks them
afterwards. Problems are collected, not raised, so that the user sees all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clif_exp.concepts.concept import Concept, ConceptImage
from clif_exp.concepts.description import (
    REMEDY,
    Description,
    as_name,
    image_files,
    sidecar_caption,
)
from clif_exp.concepts.documents import read_yaml
from clif_exp.concepts.other_tools import read_folders, read_json_list
from clif_exp.concepts.wording import shown, visible

_SET_FIELDS = ("concepts", "name")
_FIELDS = ("captions", "class_word", "images", "masks", "name", "parts")
_MOST_PX = 10**6  # and no NaN, which compares as false
_IMAGE_FIELDS = ("box", "caption", "file", "mask", "point")


def read_description(root: Path, *, download: str | None = None) -> Description:
    """Find out which layout `root` has and read it.

    Args:
        root: a folder, or a describing .yaml or .json file.
        download: how to get it, for the message where it is missing.

    Returns:
        The concepts as described, and the problems found so far.

    Raises:
        ValueError: there is nothing at `root` that describes a concept set, or it cannot be read.
    """
    if not root.exists():
        raise ValueError(
            f"dataset.root: '{root}' does not exist."
            f" {download or 'Give the folder of a concept set.'}"
        )
    folder = root if root.is_dir() else root.parent
    file = _describing_file(root) if root.is_dir() else root
    name = as_name(folder.resolve().name)
    if file is None:
        return read_folders(folder, name)
    if not file.is_file() or file.suffix not in {".yaml", ".yml", ".json"}:
        raise ValueError(
            f"dataset.root: '{root}' is neither a folder nor a .yaml or .json file. {REMEDY}"
        )
    return (
        read_json_list(file, folder, name)
        if file.suffix == ".json"
        else _read_yaml(file, folder, name)
    )


def _describing_file(folder: Path) -> Path | None:
    for name in ("concepts.yaml", "concepts.yml", "concepts_list.json", "dataset.json"):
        if (folder / name).is_file():
            return folder / name
    lists = sorted(file for file in folder.glob("*.json") if file.is_file())
    if len(lists) > 1:
        raise ValueError(
            f"dataset.root: '{folder}' holds {len(lists)} .json files. Give the one that lists all"
            f" concepts, as dataset.root={folder / lists[0].name}."
        )
    return lists[0] if lists else None


def _read_yaml(file: Path, folder: Path, name: str) -> Description:
    record = read_yaml(file)
    if isinstance(record, list):
        record = {"concepts": record}
    if (
        not isinstance(record, Mapping)
        or not isinstance(record.get("concepts"), list)
        or not record["concepts"]
    ):
        raise ValueError(
            f"{file.name}: field 'concepts' holds no list. List concepts with name, class_word and"
            " images."
        )
    found = Description(file.name, name, named_by_user=True)
    for key in _unknown(record, _SET_FIELDS):
        found.problems.append(
            f"{file.name}: unknown field {key}. The fields are {', '.join(_SET_FIELDS)}."
        )
    if record.get("name") is not None:
        if isinstance(record["name"], str):
            found.name = visible(record["name"])
        else:
            found.problems.append(
                f"{file.name}: name: found {shown(record['name'])}. Write it as text in quotes."
            )
    for index, entry in enumerate(record["concepts"]):
        if not isinstance(entry, Mapping):
            found.problems.append(
                f"{file.name}: concept {index + 1} is {shown(entry)}. Give it the fields name,"
                " class_word and images."
            )
            continue
        found.concepts.append(_Entry(entry, index, file.name, folder, found.problems).concept())
    return found


def _unknown(record: Mapping[Any, Any], known: tuple[str, ...]) -> list[str]:
    return sorted(shown(key) for key in record if key not in known)


@dataclass
class _Entry:
    """One concept of a concepts.yaml; what is wrong with it goes to `problems`."""

    entry: Mapping[Any, Any]
    index: int
    source: str
    folder: Path
    problems: list[str]

    def complain(self, text: str) -> None:
        """Note a problem of this concept."""
        label = self.entry.get("name")
        name = shown(label) if isinstance(label, str) and label else f"'{self.index + 1}'"
        self.problems.append(f"{self.source}: concept {name}: {text}")

    def concept(self) -> Concept:
        """Return the concept, as far as it could be read."""
        for key in _unknown(self.entry, _FIELDS):
            self.complain(
                f"unknown field {key}. The fields are {', '.join(_FIELDS)}; of one of its images"
                f" {', '.join(_IMAGE_FIELDS)}."
            )
        name = self._text("name")
        if self.entry.get("name") in (None, ""):
            self.problems.append(
                f"{self.source}: concept {self.index + 1}: name is missing. Give it one, such as"
                " 'rick'."
            )
        files = self._files()
        masks = self._masks(files)
        captions = self._texts("captions", "List one caption per image.", count=len(files))
        parts = self._texts("parts", "Write a list of names, such as [hat, jacket].")
        images = []
        for number, fields in enumerate(files):
            file = fields["file"]
            images.append(
                ConceptImage(
                    file=file,
                    mask=fields.get("mask") or masks.get(number),
                    caption=fields.get("caption")
                    or (captions[number] if captions else None)
                    or sidecar_caption(file, self.problems, where=f"{self.source}: "),
                    point=self._numbers(fields, "point", 2),
                    box=self._numbers(fields, "box", 4),
                )
            )
        fallback = f"concept_{self.index + 1}"
        return Concept(name or fallback, self._text("class_word"), tuple(images), tuple(parts))

    def _text(self, key: str) -> str:
        value = self.entry.get(key)
        if value is None or isinstance(value, str):
            return value or ""
        self.complain(f"{key}: found {shown(value)}. Write it as text in quotes.")
        return "missing" if key == "class_word" else ""

    def _texts(self, key: str, remedy: str, *, count: int | None = None) -> list[str]:
        """Return a list of texts; of `count` texts or nothing, if a number is given."""
        value = self.entry.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.complain(f"{key}: found {shown(value)}. {remedy}")
        elif count is not None and len(value) != count:
            self.complain(f"{key}: found {len(value)} for {count} images. {remedy}")
        elif wrong := [
            one for one in value if not (isinstance(one, str) or (count is not None and not one))
        ]:
            self.complain(f"{key}: found {shown(wrong[0])} in the list. {remedy}")
        else:
            return [one or "" for one in value]
        return []

    def _files(self) -> list[dict[str, Any]]:
        """Resolve `images:` (a folder, or a list of files or mappings) to mappings with `file`."""
        value = self.entry.get("images")
        if isinstance(value, str):
            target = self.folder / value
            if target.is_dir():
                return [{"file": file} for file in image_files(target)]
            if not target.is_file():
                self.complain(
                    f"images: {shown(value)} does not exist. Give a folder or a list of files below"
                    f" {self.folder}."
                )
                return []
            value = [value]
        if not isinstance(value, list):
            self.complain(f"images: found {shown(value)}. Give a folder or a list of files.")
            return []
        files = []
        for item in value:
            fields = dict(item) if isinstance(item, Mapping) else {"file": item}
            texts = [fields.get(key) for key in ("file", "mask", "caption")]
            if (
                _unknown(fields, _IMAGE_FIELDS)
                or not isinstance(fields.get("file"), str)
                or not all(text is None or isinstance(text, str) for text in texts)
            ):
                unknown = [f" with {key}" for key in _unknown(fields, _IMAGE_FIELDS)[:1]]
                self.complain(
                    f"images: found {shown(item)}{''.join(unknown)}. Give a file, or a mapping of"
                    f" {', '.join(_IMAGE_FIELDS)}."
                )
                continue
            fields["file"] = self.folder / fields["file"]
            if fields.get("mask") is not None:
                fields["mask"] = self.folder / fields["mask"]
            files.append(fields)
        return files

    def _masks(self, files: list[dict[str, Any]]) -> dict[int, Path]:
        """Resolve `masks:` (a folder with the images' names, or a list) to image number -> mask."""
        value = self.entry.get("masks")
        if value is None:
            return {}
        if isinstance(value, list):
            listed = self._texts(
                "masks", "List one per image, null where there is none.", count=len(files)
            )
            return {number: self.folder / mask for number, mask in enumerate(listed) if mask}
        if not isinstance(value, str) or not (self.folder / value).is_dir():
            self.complain(
                f"masks: {shown(value)} is no folder. Give a folder with masks named like the"
                " images, or a list."
            )
            return {}
        by_stem = {file.stem: file for file in image_files(self.folder / value)}
        found = {
            number: by_stem[fields["file"].stem]
            for number, fields in enumerate(files)
            if fields["file"].stem in by_stem
        }
        if not found and files:
            self.complain(
                f"masks: no file in {shown(value)} is named like an image. Name masks like their"
                " images."
            )
        return found

    def _numbers(self, fields: Mapping[str, Any], key: str, count: int) -> Any:
        value = fields.get(key)
        if value is None:
            return None
        if (
            not isinstance(value, list)
            or len(value) != count
            or not all(isinstance(v, int | float) and abs(v) < _MOST_PX for v in value)
        ):
            self.complain(
                f"{visible(fields['file'].name)}: {key}: found {shown(value)}. Give {count} numbers"
                " in px."
            )
            return None
        return tuple(round(v) for v in value)
