"""Prompts of the field's benchmarks, from their own files: DreamBench and CustomConcept101.

Where they write a token and the class word (`{0} {1}`, or `<new1> cat` for `{}`), `<name>` stands
alone: it begins as the class word and is trained in its place. Text alignment compares with the
same sentence with the class word only, as the benchmarks do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clif_exp.concepts.description import as_name, folder_label, locate
from clif_exp.concepts.documents import read_json, read_text
from clif_exp.concepts.wording import listing, shown, visible
from clif_exp.prompts.sentences import Sentence

# DreamBench's file has a list for objects and one for live subjects, but does not say which class
# gets which. Its own live classes are cat and dog; the others are for subjects added to its table.
LIVE = {"cat", "dog", "bird", "fox", "horse", "lynx", "mouse", "rabbit", "wolf"}
LIVE |= {"baby", "boy", "child", "girl", "man", "person", "woman"}
_HEADINGS = {"object prompts": "object", "live subject prompts": "live"}
_TEMPLATE = re.compile(r"""(['"])(.*)\1\s*\.format\(.*\),?""")
_BRACES = re.compile(r"\{[^{}]*\}|[{}]")


def read_dreambench(file: Path, *, concepts: Mapping[str, str]) -> list[Sentence]:
    """Read DreamBench's `prompts_and_classes.txt`: the list that fits its class, for each concept.

    Args:
        file: with the headings "Object Prompts" and "Live Subject Prompts", each followed by lines
            such as `'a {0} {1} in the snow'.format(unique_token, class_token),`.
        concepts: name -> class word.

    Raises:
        ValueError: a template is broken, with its line's number, or a list is missing.
    """
    templates: dict[str, list[str]] = {"object": [], "live": []}
    problems, heading = [], None
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        text = line.strip()
        heading = _HEADINGS.get(text.lower(), heading)
        if heading is None or text[:1] not in ("'", '"'):
            continue
        found = _TEMPLATE.fullmatch(text)
        if found and _BRACES.findall(found[2]) == ["{0}", "{1}"] and "{0} {1}" in found[2]:
            templates[heading].append(found[2])
        else:
            problems.append(
                f"{file.name}: line {number}: {shown(text)} is no template. Write it as 'a {{0}}"
                " {1} on the beach'.format(unique_token, class_token),"
            )
    for heading, name in zip(templates, ("Object Prompts", "Live Subject Prompts"), strict=True):
        if not templates[heading] and not problems:
            problems.append(f"{file.name}: holds no prompts under '{name}'. Download it again.")
    if problems:
        raise ValueError(listing(problems))
    sentences = []
    for name, word in concepts.items():
        for template in templates["live" if word.lower().split()[-1] in LIVE else "object"]:
            text, class_text = (template.replace("{0} {1}", one) for one in (f"<{name}>", word))
            sentences.append(Sentence(text, class_text))
    return sentences


def read_customconcept101(
    file: Path, *, concepts: Mapping[str, str], aliases: Mapping[str, str]
) -> tuple[list[Sentence], list[str]]:
    """Read CustomConcept101's `dataset.json` or `dataset_multiconcept.json` with their prompts.

    Args:
        file: a list of concepts (`instance_data_dir`, `prompt_filename`), or of lists of concepts
            that end with a `prompt_filename_compose`.
        concepts: name -> class word; a folder's label is its concept's name.
        aliases: other labels -> name.

    Returns:
        The prompts of those entries of which all concepts are in the run; and what was left out,
        in sentences.

    Raises:
        ValueError: the file or one of its prompts is broken, or no entry fits.
    """
    record = read_json(file)
    entries = [entry if isinstance(entry, list) else [entry] for entry in _list(record)]
    sentences: list[Sentence] = []
    problems: list[str] = []
    notes: list[str] = []
    for number, entry in enumerate(entries, start=1):
        labels, prompts = _of_entry(entry)
        if not labels or prompts is None:
            problems.append(
                f"{file.name}: entry {number} has no 'instance_data_dir' or no prompts. Give"
                " 'prompt_filename', or 'prompt_filename_compose' behind several concepts."
            )
            continue
        names = [aliases.get(label, label) for label in labels]
        if not set(names) <= set(concepts) or len(set(names)) < len(names):
            continue
        path = locate(prompts, file.parent)
        if path is None or not path.is_file():
            problems.append(
                f"{file.name}: entry {number}: {shown(prompts)} does not exist below"
                f" {file.parent}. Put CustomConcept101's folder 'prompts' there."
            )
            continue
        sentences += _fill(path, names, concepts, problems, notes)
    if not sentences and not problems:
        kind = "pair" if any(len(entry) > 1 for entry in entries) else "concept"
        problems.append(
            f"{file.name}: lists no {kind} of this run, which has {', '.join(concepts)}. Choose"
            " others by dataset.names, or leave the file out of generation.prompts.source."
        )
    if problems:
        raise ValueError(listing(list(dict.fromkeys(problems))))
    return sentences, list(dict.fromkeys(notes))


def _list(record: Any) -> list[Any]:
    return record if isinstance(record, list) else []


def _of_entry(entry: Sequence[Any]) -> tuple[list[str], str | None]:
    """The labels of an entry's concepts, and the file of its prompts."""
    parts = [part for part in entry if isinstance(part, Mapping)]
    folders = [part["instance_data_dir"] for part in parts if "instance_data_dir" in part]
    key = "prompt_filename" if len(folders) == 1 else "prompt_filename_compose"
    prompts = next((part[key] for part in parts if key in part), None)
    if not all(isinstance(one, str) for one in (*folders, prompts)):
        return [], None
    return [as_name(folder_label(folder)) for folder in folders], prompts


def _fill(
    path: Path,
    names: Sequence[str],
    concepts: Mapping[str, str],
    problems: list[str],
    notes: list[str],
) -> list[Sentence]:
    """Fill the templates of one file; a line that names only some of its concepts is left out."""
    slots = ["{}"] if len(names) == 1 else [f"{{{index}}}" for index in range(len(names))]
    where = f"{path.parent.name}/{path.name}"
    sentences = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        template = " ".join(line.split())
        found = set(_BRACES.findall(template))
        if not template:
            continue
        if not found or not found <= set(slots):
            problems.append(
                f"{where}: line {number}: '{visible(template)}' is no template. Write"
                f" {' and '.join(slots)} for {'the concept' if len(names) == 1 else 'concepts'}."
            )
        elif len(found) < len(slots):
            notes.append(f"{where}: line {number} names one concept twice, left out: {template}")
        else:
            text = class_text = template
            for slot, name in zip(slots, names, strict=True):
                text = text.replace(slot, f"<{name}>")
                class_text = class_text.replace(slot, concepts[name])
            sentences.append(Sentence(text, class_text))
    return sentences
