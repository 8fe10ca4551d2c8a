"""The layouts of concept sets: `concepts.yaml`, and those of other tools.

Each reader returns concepts as described, without opening an image; `reading.py` checks them
afterwards. Problems are collected, not raised, so that the user sees all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clif_exp.concepts.concept import Concept, ConceptImage
from clif_exp.concepts.other_tools import (
    REMEDY,
    Description,
    as_name,
    image_files,
    read_folders,
    read_json_list,
    sidecar_caption,
)

_FIELDS = {"name", "class_word", "images", "masks", "captions", "parts"}
_IMAGE_FIELDS = {"file", "mask", "caption", "point", "box"}


def read_description(root: Path) -> Description:
    """Find out which layout `root` has and read it.

    Args:
        root: a folder, or a describing .yaml or .json file.

    Returns:
        Name of the describing file (for messages), the set's name, its concepts, and problems found
        so far.

    Raises:
        ValueError: there is nothing at `root` that describes a concept set.
    """
    if not root.exists():
        raise ValueError(
            f"dataset.root: '{root}' does not exist. Give the folder of a concept set."
        )
    if root.is_file():
        file, folder = root, root.parent
    else:
        folder = root
        candidates = [
            folder / "concepts.yaml",
            folder / "concepts.yml",
            folder / "concepts_list.json",
            *sorted(folder.glob("*.json")),
        ]
        file = next((c for c in candidates if c.is_file()), folder)
    name = as_name(folder.resolve().name)
    if file.suffix in {".yaml", ".yml"}:
        return _read_yaml(file, folder, name)
    if file.suffix == ".json":
        return read_json_list(file, folder, name)
    if file.is_file():
        raise ValueError(
            f"dataset.root: '{root}' is neither a folder nor a .yaml or .json file. {REMEDY}"
        )
    return read_folders(folder, name)


def _read_yaml(file: Path, folder: Path, name: str) -> Description:
    import yaml

    try:
        record = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file.name}: is not valid YAML ({' '.join(str(error).split())}). Correct it there."
        ) from None
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
    problems: list[str] = []
    concepts = []
    for index, entry in enumerate(record["concepts"]):
        if not isinstance(entry, Mapping):
            problems.append(
                f"{file.name}: concept {index + 1} is {entry!r}. Give it the fields name,"
                " class_word and images."
            )
            continue
        concepts.append(_read_entry(entry, index, file.name, folder, problems))
    return file.name, str(record.get("name") or name), concepts, problems


def _read_entry(
    entry: Mapping[str, Any], index: int, source: str, folder: Path, problems: list[str]
) -> Concept:
    where = f"{source}: concept '{entry.get('name', index + 1)}'"
    for key in sorted(set(map(str, entry)) - _FIELDS):
        problems.append(
            f"{where}: unknown field '{key}'. The fields are {', '.join(sorted(_FIELDS))}."
        )
    for key in ("name", "class_word"):
        if key in entry and not isinstance(entry[key], str):
            problems.append(f"{where}: {key}: found {entry[key]!r}. Write it as text in quotes.")
    if not entry.get("name"):
        problems.append(
            f"{source}: concept {index + 1}: name is missing. Give it one, such as 'rick'."
        )
    files = _files(entry.get("images"), folder, where, "images", problems)
    masks = _masks(entry.get("masks"), files, folder, where, problems)
    captions = entry.get("captions")
    if captions is not None and (not isinstance(captions, list) or len(captions) != len(files)):
        found = len(captions) if isinstance(captions, list) else repr(captions)
        problems.append(
            f"{where}: captions: found {found} for {len(files)} images. List one caption per image."
        )
        captions = None
    parts = entry.get("parts") or []
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        problems.append(
            f"{where}: parts: found {parts!r}. Write a list of names, such as [hat, jacket]."
        )
        parts = []
    images = []
    for number, fields in enumerate(files):
        caption = (
            fields.get("caption")
            or (captions[number] if captions else None)
            or sidecar_caption(fields["file"])
        )
        images.append(
            ConceptImage(
                file=fields["file"],
                mask=fields.get("mask") or masks.get(number),
                caption=caption,
                point=_numbers(
                    fields.get("point"), 2, f"{where}: {fields['file'].name}: point", problems
                ),
                box=_numbers(
                    fields.get("box"), 4, f"{where}: {fields['file'].name}: box", problems
                ),
            )
        )
    return Concept(
        str(entry.get("name") or f"concept_{index + 1}"),
        str(entry.get("class_word") or ""),
        tuple(images),
        tuple(parts),
    )


def _files(
    value: Any, folder: Path, where: str, field: str, problems: list[str]
) -> list[dict[str, Any]]:
    """Resolve `images:` (a folder, or a list of files or mappings) to mappings with `file`."""
    if isinstance(value, str):
        target = folder / value
        if target.is_dir():
            return [{"file": file} for file in image_files(target)]
        if not target.is_file():
            problems.append(
                f"{where}: {field}: '{value}' does not exist. Give a folder or a list of files"
                f" below {folder}."
            )
            return []
        value = [value]
    if not isinstance(value, list):
        problems.append(f"{where}: {field}: found {value!r}. Give a folder or a list of files.")
        return []
    files = []
    for item in value:
        fields = dict(item) if isinstance(item, Mapping) else {"file": item}
        unknown = sorted(set(map(str, fields)) - _IMAGE_FIELDS)
        if unknown or not isinstance(fields.get("file"), str):
            problems.append(
                f"{where}: {field}: found {item!r}. Give a file, or a mapping of"
                f" {', '.join(sorted(_IMAGE_FIELDS))}."
            )
            continue
        fields["file"] = folder / fields["file"]
        if fields.get("mask") is not None:
            fields["mask"] = folder / str(fields["mask"])
        files.append(fields)
    return files


def _masks(
    value: Any, files: list[dict[str, Any]], folder: Path, where: str, problems: list[str]
) -> dict[int, Path]:
    if value is None:
        return {}
    if isinstance(value, list):
        if len(value) != len(files):
            problems.append(
                f"{where}: masks: found {len(value)} for {len(files)} images. List one per image,"
                " null where there is none."
            )
        return {number: folder / mask for number, mask in enumerate(value) if mask}
    target = folder / str(value)
    if not target.is_dir():
        problems.append(
            f"{where}: masks: '{value}' is no folder. Give a folder with masks named like the"
            " images, or a list."
        )
        return {}
    by_stem = {file.stem: file for file in image_files(target)}
    found = {
        number: by_stem[fields["file"].stem]
        for number, fields in enumerate(files)
        if fields["file"].stem in by_stem
    }
    if not found and files:
        problems.append(
            f"{where}: masks: no file in '{value}' is named like an image. Name masks like their"
            " images."
        )
    return found


def _numbers(value: Any, count: int, where: str, problems: list[str]) -> Any:
    if value is None:
        return None
    if (
        not isinstance(value, list | tuple)
        or len(value) != count
        or not all(isinstance(v, int | float) for v in value)
    ):
        problems.append(f"{where}: found {value!r}. Give {count} numbers in px.")
        return None
    return tuple(round(v) for v in value)
