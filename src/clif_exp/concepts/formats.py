"""The layouts of concept sets: `concepts.yaml`, and those of other tools.

Each reader returns concepts as described, without opening an image; `reading.py` checks them
afterwards. Problems are collected, not raised, so that the user sees all of them at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clif_exp.concepts.concept import Concept, ConceptImage
from clif_exp.concepts.images import IMAGE_SUFFIXES

_FIELDS = {"name", "class_word", "images", "masks", "captions", "parts"}
_IMAGE_FIELDS = {"file", "mask", "caption", "point", "box"}
_REMEDY = (
    "Put a concepts.yaml there, or Custom Diffusion's concepts_list.json, Mix-of-Show's data JSON,"
    " DreamBench's folders with prompts_and_classes.txt, or folders named '<name> <class word>'"
    " with images."
)

Description = tuple[
    str, str, list[Concept], list[str]
]  # describing file, set's name, concepts, problems


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
    name = _slug(folder.resolve().name)
    if file.suffix in {".yaml", ".yml"}:
        return _read_yaml(file, folder, name)
    if file.suffix == ".json":
        return _read_json(file, folder, name)
    if file.is_file():
        raise ValueError(
            f"dataset.root: '{root}' is neither a folder nor a .yaml or .json file. {_REMEDY}"
        )
    return _read_folders(folder, name)


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
            or _sidecar(fields["file"])
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
            return [{"file": file} for file in _images(target)]
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
    by_stem = {file.stem: file for file in _images(target)}
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


def _read_json(file: Path, folder: Path, name: str) -> Description:
    """Read Custom Diffusion's concepts_list.json or Mix-of-Show's data JSON."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file.name}: is not valid JSON ({error}). Correct it there.") from None
    if (
        not isinstance(record, list)
        or not all(isinstance(entry, Mapping) and "instance_data_dir" in entry for entry in record)
        or not record
    ):
        raise ValueError(f"{file.name}: is no list of entries with 'instance_data_dir'. {_REMEDY}")
    problems: list[str] = []
    concepts = []
    for entry in record:
        data = _locate(str(entry["instance_data_dir"]), folder)
        label = Path(str(entry["instance_data_dir"])).name
        if label.lower() in {"image", "images"}:
            label = Path(str(entry["instance_data_dir"])).parent.name
        # Custom Diffusion marks the concept in its prompt, as "<new1> cat"; Mix-of-Show writes
        # <TOK> for all of them.
        marked = re.search(r"<([^<>|]+)>", str(entry.get("instance_prompt", "")))
        concept_name = _slug(marked[1] if marked and marked[1] != "TOK" else label)
        where = f"{file.name}: concept '{concept_name}'"
        class_word = str(entry.get("class_word") or _class_from_prompts(entry))
        if not class_word:
            problems.append(
                f'{where}: class_prompt is missing. Add "class_prompt": "man" (what it is) to the'
                " entry."
            )
            class_word = "missing"
        if data is None:
            problems.append(
                f"{where}: instance_data_dir '{entry['instance_data_dir']}' does not exist below"
                f" {folder}. Correct the path."
            )
        captions = _locate(str(entry["caption_dir"]), folder) if entry.get("caption_dir") else data
        masks = _locate(str(entry["mask_dir"]), folder) if entry.get("mask_dir") else None
        by_stem = {mask.stem: mask for mask in _images(masks)} if masks else {}
        images = [
            ConceptImage(image, mask=by_stem.get(image.stem), caption=_sidecar(image, captions))
            for image in (_images(data) if data else [])
        ]
        concepts.append(Concept(concept_name, class_word, tuple(images)))
    return file.name, name, concepts, problems


def _class_from_prompts(entry: Mapping[str, Any]) -> str:
    words = re.sub(
        r"^(a |an |the )?(photo|picture|image|drawing) of ",
        "",
        str(entry.get("class_prompt", "")).strip().lower(),
    )
    return re.sub(r"^(a|an|the) ", "", words)


def _read_folders(folder: Path, name: str) -> Description:
    """Read DreamBench's layout, or plain folders with .txt captions or metadata.jsonl."""
    problems: list[str] = []
    classes: dict[str, str] = {}
    table = folder / "prompts_and_classes.txt"
    if table.is_file():
        pairs = re.findall(
            r"^([\w-]+),([\w -]+)$", table.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        classes = {subject: word for subject, word in pairs if subject != "subject_name"}
    folders = [
        child
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith(".")
    ]
    if classes:
        folders = [child for child in folders if child.name in classes]
    if not folders and _images(folder):
        folders = [folder]
    if not folders:
        raise ValueError(f"dataset.root: '{folder}' holds no concept set. {_REMEDY}")
    concepts = []
    for child in folders:
        concept_name, class_word = _name_and_class(child.resolve().name, classes)
        metadata = _read_metadata(child, problems)
        class_word = class_word or next(
            (str(row["class_word"]) for row in metadata.values() if row.get("class_word")), ""
        )
        if not class_word:
            problems.append(
                f"{child.name}/: class_word: the folder's name holds none. Name the folder"
                f" '{child.name} man' (name, then what it is), or write a concepts.yaml."
            )
            class_word = "missing"
        images = []
        for image in _images(child):
            row = metadata.get(image.name, {})
            images.append(
                ConceptImage(
                    image, caption=row.get("text") or row.get("caption") or _sidecar(image)
                )
            )
        concepts.append(Concept(_slug(concept_name), class_word, tuple(images)))
    return table.name if classes else f"{folder.name}/", name, concepts, problems


def _name_and_class(folder_name: str, classes: Mapping[str, str]) -> tuple[str, str]:
    if folder_name in classes:
        return folder_name, classes[folder_name]
    # kohya's folders are "<repeats>_<name> <class word>"; a plain "<name> <class word>" reads the
    # same way.
    label, _, class_word = re.sub(r"^\d+_", "", folder_name).partition(" ")
    return label, class_word.strip()


def _read_metadata(folder: Path, problems: list[str]) -> dict[str, dict[str, Any]]:
    file = folder / "metadata.jsonl"
    rows = {}
    for number, line in enumerate(
        file.read_text(encoding="utf-8").splitlines() if file.is_file() else [], start=1
    ):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows[row["file_name"]] = row
        except (json.JSONDecodeError, KeyError, TypeError):
            problems.append(
                f"{folder.name}/metadata.jsonl: line {number} is no JSON object with file_name."
                " Correct it there."
            )
            continue
        if not (folder / row["file_name"]).is_file():
            problems.append(
                f"{folder.name}/metadata.jsonl: line {number}: {row['file_name']} is missing. Add"
                " the file or remove the line."
            )
    return rows


def _images(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )


def _sidecar(image: Path, folder: Path | None = None) -> str | None:
    file = (folder or image.parent) / f"{image.stem}.txt"
    return file.read_text(encoding="utf-8").strip() or None if file.is_file() else None


def _locate(path: str, folder: Path) -> Path | None:
    """Find a folder that is named relative to another tool's working directory, by its tail."""
    parts = Path(path).parts
    if Path(path).is_absolute():
        return Path(path) if Path(path).is_dir() else None
    tails = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((tail for tail in tails if tail.is_dir()), None)


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


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")
    return slug if re.match(r"[a-z]", slug) else f"c_{slug}".rstrip("_")
