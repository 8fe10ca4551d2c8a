"""Concept sets as other tools lay them out: Custom Diffusion, Mix-of-Show, DreamBench, folders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clif_exp.concepts.concept import Concept, ConceptImage
from clif_exp.concepts.images import IMAGE_SUFFIXES

REMEDY = (
    "Put a concepts.yaml there, or Custom Diffusion's concepts_list.json, Mix-of-Show's data JSON,"
    " DreamBench's folders with prompts_and_classes.txt, or folders named '<name> <class word>'"
    " with images."
)


Description = tuple[
    str, str, list[Concept], list[str]
]  # describing file, set's name, concepts, problems


def read_json_list(file: Path, folder: Path, name: str) -> Description:
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
        raise ValueError(f"{file.name}: is no list of entries with 'instance_data_dir'. {REMEDY}")
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
        concept_name = as_name(marked[1] if marked and marked[1] != "TOK" else label)
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
        captions, masks = (
            _locate(str(entry[key]), folder) if entry.get(key) else otherwise
            for key, otherwise in (("caption_dir", data), ("mask_dir", None))
        )
        by_stem = {mask.stem: mask for mask in image_files(masks)} if masks else {}
        images = [
            ConceptImage(
                image, mask=by_stem.get(image.stem), caption=sidecar_caption(image, captions)
            )
            for image in (image_files(data) if data else [])
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


def read_folders(folder: Path, name: str) -> Description:
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
    if not folders and image_files(folder):
        folders = [folder]
    if not folders:
        raise ValueError(f"dataset.root: '{folder}' holds no concept set. {REMEDY}")
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
        for image in image_files(child):
            row = metadata.get(image.name, {})
            images.append(
                ConceptImage(
                    image, caption=row.get("text") or row.get("caption") or sidecar_caption(image)
                )
            )
        concepts.append(Concept(as_name(concept_name), class_word, tuple(images)))
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


def image_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )


def sidecar_caption(image: Path, folder: Path | None = None) -> str | None:
    file = (folder or image.parent) / f"{image.stem}.txt"
    return file.read_text(encoding="utf-8").strip() or None if file.is_file() else None


def _locate(path: str, folder: Path) -> Path | None:
    """Find a folder that is named relative to another tool's working directory, by its tail."""
    parts = Path(path).parts
    if Path(path).is_absolute():
        return Path(path) if Path(path).is_dir() else None
    tails = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((tail for tail in tails if tail.is_dir()), None)


def as_name(text: str) -> str:
    slug = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")
    return slug if re.match(r"[a-z]", slug) else f"c_{slug}".rstrip("_")
