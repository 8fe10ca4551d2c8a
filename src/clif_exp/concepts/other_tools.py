"""Concept sets as other tools lay them out: Custom Diffusion, Mix-of-Show, DreamBench, folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clif_exp.concepts.concept import Concept, ConceptImage
from clif_exp.concepts.description import (
    REMEDY,
    Description,
    as_name,
    folder_label,
    image_files,
    locate,
    sidecar_caption,
)
from clif_exp.concepts.documents import read_json, read_text
from clif_exp.concepts.wording import shown, visible

_TEXTS = ("instance_data_dir", "instance_prompt", "class_prompt", "class_word")
_FOLDERS = ("instance_data_dir", "caption_dir", "mask_dir")
# What may follow a concept in a caption without saying what it is; and whatever ends in -ing.
_NO_CLASS = (
    "an and are as at beside by for from has have he her his holds in inside into is it its looks"
    " near next of on or over she sits stands that the their they to under wears while who with"
)


def read_json_list(file: Path, folder: Path, name: str) -> Description:
    """Read a JSON list of Custom Diffusion, CustomConcept101 or Mix-of-Show."""
    record = read_json(file)
    if (
        not isinstance(record, list)
        or not all(isinstance(entry, Mapping) and "instance_data_dir" in entry for entry in record)
        or not record
    ):
        if isinstance(record, list) and any(
            isinstance(entry, Mapping) and "lora_path" in entry for entry in record
        ):
            raise ValueError(
                f"{file.name}: lists Mix-of-Show's trained models, not images. Give its data JSON"
                " with 'instance_data_dir'."
            )
        raise ValueError(f"{file.name}: is no list of entries with 'instance_data_dir'. {REMEDY}")
    found = Description(file.name, name)
    for number, entry in enumerate(record, start=1):
        wrong = [key for key in {*_TEXTS, *_FOLDERS} if not isinstance(entry.get(key, ""), str)]
        if wrong:
            key = sorted(wrong)[0]
            found.problems.append(
                f"{file.name}: entry {number}: {key}: found {shown(entry[key])}. Write it as text."
            )
            continue
        found.concepts.append(_read_entry(entry, folder, found))
    return found


def _read_entry(entry: Mapping[str, str], folder: Path, found: Description) -> Concept:
    """Read one entry of a JSON list."""
    path = Path(entry["instance_data_dir"])
    # Custom Diffusion marks the concept in its prompt, as "<new1> cat"; Mix-of-Show writes <TOK>
    # for all of them, CustomConcept101 (which lists prompts) <new1>.
    marked = re.search(r"<([^<>|]+)>", entry.get("instance_prompt", ""))
    own = marked and marked[1] != "TOK" and "prompt_filename" not in entry
    name = as_name(marked[1] if marked and own else folder_label(entry["instance_data_dir"]))
    where = f"{found.source}: concept '{visible(name)}'"
    folders: dict[str, Path | None] = {}
    for key in _FOLDERS:
        found_at = locate(entry[key], folder) if entry.get(key) else None
        folders[key] = found_at if found_at and found_at.is_dir() else None
        if folders[key] is None and (entry.get(key) or key == "instance_data_dir"):
            found.problems.append(
                f"{where}: {key} {shown(entry[key])} does not exist below {folder}. Correct the"
                " path."
            )
    data, masks = folders["instance_data_dir"], folders["mask_dir"]
    by_stem = {mask.stem: mask for mask in image_files(masks)} if masks else {}
    images = [
        ConceptImage(
            image,
            mask=by_stem.get(image.stem),
            caption=sidecar_caption(
                image, found.problems, folder=folders["caption_dir"] or data, where=f"{where}: "
            ),
        )
        for image in (image_files(data) if data else [])
    ]
    class_word = entry.get("class_word") or _class_from_prompts(entry)
    if not class_word:
        class_word, by = _class_from_captions([image.caption or "" for image in images]), "captions"
        if not class_word:
            class_word, by = _class_from_folder(path), "folder"
        if class_word:
            found.notes.append(f"concept '{name}': class word '{class_word}', taken from its {by}")
    if not class_word:
        found.problems.append(
            f'{where}: class_prompt is missing. Add "class_prompt": "man" (what it is) to the'
            " entry: neither its captions nor its folder say it."
        )
        class_word = "missing"
    return Concept(name, class_word, tuple(images))


def _class_from_prompts(entry: Mapping[str, str]) -> str:
    prompt = entry.get("class_prompt", "").strip().lower()
    if "/" in prompt or prompt.endswith(".txt"):
        # A file of regularisation captions: what it is stands behind the mark, as in "<new1> cat".
        marked = re.search(r"(?:<[^<>|]+>\s*)+([\w' -]*)", entry.get("instance_prompt", ""))
        return marked[1].strip().lower() if marked else ""
    words = re.sub(r"^(a |an |the )?(photo|picture|image|drawing) of ", "", prompt)
    return re.sub(r"^(a|an|the) ", "", words)


def _class_from_captions(captions: Sequence[str]) -> str:
    """Return the word that stands behind `<TOK>` in most of the captions that name it."""
    pattern = re.compile(r"<TOK>(?:,? (?:an?|the))? ([a-z]+)\b", re.IGNORECASE)
    naming = [caption for caption in captions if "<tok>" in caption.lower()]
    matches = [pattern.search(" ".join(caption.split())) for caption in naming]
    words = Counter(match[1].lower() for match in matches if match)
    word, count = words.most_common(1)[0] if words else ("", 0)
    says_what = not word.endswith("ing") and word not in _NO_CLASS.split()
    return word if says_what and 2 * count > len(naming) else ""


def _class_from_folder(path: Path) -> str:
    """Return "cat" for .../objects/real/cat/catA/image, the layout of Mix-of-Show's objects."""
    parts = [part for part in path.parts if part.lower() not in {"image", "images"}]
    if "objects" not in parts:
        return ""
    matched = re.fullmatch(r"([a-z]+?)_?(?:[A-Z]|\d+)?", parts[-1])
    return matched[1] if matched else ""


def read_folders(folder: Path, name: str) -> Description:
    """Read DreamBench's layout, or plain folders with .txt captions or metadata.jsonl."""
    classes: dict[str, str] = {}
    table = folder / "prompts_and_classes.txt"
    if table.is_file():
        pairs = re.findall(r"^([\w-]+),([\w -]+)$", read_text(table), flags=re.MULTILINE)
        classes = {subject: word for subject, word in pairs if subject != "subject_name"}
    folders = [
        child
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith(".")
    ]
    found = Description(table.name if classes else f"{folder.name}/", name)
    if classes:
        without = [child.name for child in folders if child.name not in classes]
        if without:
            found.notes.append(
                f"{len(without)} folders that {table.name} does not list are left out, such as"
                f" '{visible(without[0])}'"
            )
        folders = [child for child in folders if child.name in classes]
    if not folders and image_files(folder):
        folders = [folder]
    if not folders:
        raise ValueError(f"dataset.root: '{folder}' holds no concept set. {REMEDY}")
    found.concepts = [_read_folder(child, classes, found.problems) for child in folders]
    return found


def _read_folder(child: Path, classes: Mapping[str, str], problems: list[str]) -> Concept:
    """Read one concept's folder."""
    label = child.resolve().name
    concept_name, class_word = _name_and_class(label, classes)
    metadata = _read_metadata(child, problems)
    class_word = class_word or next(
        (row["class_word"] for row in metadata.values() if row.get("class_word")), ""
    )
    if not class_word:
        problems.append(
            f"{visible(label)}/: class_word: the folder's name holds none. Name the folder"
            f" '{visible(label)} man' (name, then what it is), or write a concepts.yaml."
        )
        class_word = "missing"
    images = []
    for image in image_files(child):
        row = metadata.get(image.name, {})
        caption = row.get("text") or row.get("caption")
        images.append(
            ConceptImage(
                image, caption=caption or sidecar_caption(image, problems, where=f"{label}/")
            )
        )
    return Concept(as_name(concept_name), class_word, tuple(images))


def _name_and_class(folder_name: str, classes: Mapping[str, str]) -> tuple[str, str]:
    if folder_name in classes:
        return folder_name, classes[folder_name]
    # kohya's folders are "<repeats>_<name> <class word>"; a plain "<name> <class word>" reads the
    # same way.
    label, _, class_word = re.sub(r"^\d+_", "", folder_name).partition(" ")
    return label, class_word.strip()


def _read_metadata(folder: Path, problems: list[str]) -> dict[str, dict[str, str]]:
    """Return the rows of metadata.jsonl by file name, of which only the texts that we use."""
    file = folder / "metadata.jsonl"
    if not file.is_file():
        return {}
    where = f"{visible(folder.name)}/{file.name}"
    rows: dict[str, dict[str, str]] = {}
    try:
        lines = read_text(file).splitlines()
    except ValueError as error:
        problems.append(f"{visible(folder.name)}/{error}")
        return {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row: Any = read_json(file, text=line, where=f"{where}: line {number}")
        except ValueError as error:
            problems.append(str(error))
            continue
        if not isinstance(row, Mapping) or not isinstance(row.get("file_name"), str):
            problems.append(
                f"{where}: line {number} is no JSON object with file_name. Correct it there."
            )
            continue
        used = {key: row[key] for key in ("text", "caption", "class_word") if row.get(key)}
        if wrong := [key for key, value in used.items() if not isinstance(value, str)]:
            problems.append(
                f"{where}: line {number}: {wrong[0]}: found {shown(used[wrong[0]])}. Write it as"
                " text."
            )
            continue
        rows[row["file_name"]] = used
        if not (folder / row["file_name"]).is_file():
            problems.append(
                f"{where}: line {number}: {shown(row['file_name'])} is missing. Add the file or"
                " remove the line."
            )
    return rows
