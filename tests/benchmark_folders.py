"""Small folders in the layouts of the field's benchmarks, with drawn images."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from clif_exp.concepts.reading import read_concept_set
from clif_exp.toonworld.cast import write_cast

TABLE = """Classes

subject_name,class
{table}

Prompts

Object Prompts

prompt_list = [
'a {{0}} {{1}} on the beach'.format(unique_token, class_token),
'a red {{0}} {{1}}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {{0}} {{1}} on the beach'.format(unique_token, class_token),
'a {{0}} {{1}} wearing a red hat'.format(unique_token, class_token),
'a wet {{0}} {{1}}'.format(unique_token, class_token)
]
"""


def dreambench_table(root: Path, classes: Mapping[str, str]) -> Path:
    """Write prompts_and_classes.txt with two object and three live prompts; return it."""
    root.mkdir(parents=True, exist_ok=True)
    file = root / "prompts_and_classes.txt"
    lines = [f"{name},{word}" for name, word in classes.items()]
    file.write_text(TABLE.format(table="\n".join(lines)))
    return file


def customconcept101_lists(root: Path, classes: Mapping[str, str]) -> tuple[Path, Path]:
    """Write dataset.json, dataset_multiconcept.json (each concept with the next) and prompts/."""
    (root / "prompts").mkdir(parents=True, exist_ok=True)
    (root / "prompts" / "one.txt").write_text("Photo of a {}. \n{} on the beach.\n\n")
    two = "the {0} and {1} on the beach. \n{1} on the left and {0} on the right.\n{0} near {0}.\n"
    (root / "prompts" / "two.txt").write_text(two)
    entries = [
        {
            "instance_prompt": f"photo of a <new1> {word}",
            "class_prompt": word,
            "instance_data_dir": f"./benchmark_dataset/{name}",
            "class_data_dir": f"./regularization/{name}",
            "prompt_filename": "prompts/one.txt",
        }
        for name, word in classes.items()
    ]
    compose = {"prompt_filename_compose": "prompts/two.txt"}
    pairs = [[a, b, compose] for a, b in itertools.pairwise(entries)]
    single, multi = root / "dataset.json", root / "dataset_multiconcept.json"
    single.write_text(json.dumps(entries))
    multi.write_text(json.dumps(pairs))
    return single, multi


def drawn_images(root: Path, *names: str) -> None:
    """Write a folder of drawn images for each name: one of ToonWorld's cast in each."""
    cast = root.parent / f"{root.name}_cast"
    write_cast(cast, size=len(names))
    for name, concept in zip(names, read_concept_set(cast).concepts, strict=True):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(concept.images):
            shutil.copy(image.file, root / name / f"{index:02d}.png")
