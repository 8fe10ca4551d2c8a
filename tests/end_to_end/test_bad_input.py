"""Every kind of bad concept set: refused at once, in few lines that say what to do.

A case is (id, what to write, what the message says). `native` cases are one concept of a
concepts.yaml with a good image, but for the fields given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from clif_exp.concepts.reading import read_concept_set
from support import write_image

Write = Callable[[Path], object]


class Case(NamedTuple):
    id: str
    write: Write
    says: tuple[str, ...]


def text(name: str, content: str | bytes) -> Write:
    """A set of one describing file, beside good images."""
    data = content.encode() if isinstance(content, str) else content
    return lambda root: (root / name).write_bytes(data)


def native(id_: str, *says: str, **fields: str) -> Case:
    """A case of concepts.yaml; fields are YAML."""
    entry = {"name": "rick", "class_word": "man", "images": "[a.png]"} | fields
    lines = "\n".join(f"    {key}: {value}" for key, value in entry.items())
    return Case(id_, text("concepts.yaml", f"concepts:\n  -\n{lines}\n"), says)


def yaml(id_: str, content: str | bytes, *says: str) -> Case:
    return Case(f"yaml-{id_}", text("concepts.yaml", content), ("concepts.yaml", *says))


def listed(id_: str, content: str, *says: str) -> Case:
    return Case(f"json-{id_}", text("concepts_list.json", content), ("concepts_list.json", *says))


def entries(*changes: dict[str, object]) -> str:
    whole = {"instance_prompt": "a <x> man", "class_prompt": "man", "instance_data_dir": "good"}
    return json.dumps([whole | change for change in changes])


def mask(**pixels: int) -> Write:
    """A concept whose mask has `marked` white pixels; `side` is the mask's."""

    def write(root: Path) -> None:
        side = pixels.get("side", 64)
        values = np.zeros(side * side, np.uint8)
        values[: pixels["marked"]] = 255
        Image.fromarray(values.reshape(side, side)).save(root / "mask.png")
        line = "{name: rick, class_word: man, images: [{file: a.png, mask: mask.png}]}"
        (root / "concepts.yaml").write_text(f"concepts: [{line}]")

    return write


def folder(name: str, **files: str | bytes) -> Write:
    """A folder of a good image and other files (`_` for the dot in a name)."""

    def write(root: Path) -> None:
        write_image(root / "set" / name / "a.png")
        for file, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (root / "set" / name / file.replace("_", ".")).write_bytes(data)

    return write


def fifo(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    (root / "concepts.yaml").write_text(
        "concepts: [{name: rick, class_word: man, images: [pipe.png]}]"
    )


def bomb(line: str) -> str:
    """Nine levels of nine aliases: 387 million values if written out."""
    levels = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, level in zip("abcdefgh", "bcdefghi", strict=True):
        levels.append(f"{level}: &{level} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join([*levels, line])


SECONDS = 30  # without the imports; takes one, but where other work is done beside it
TWO = "concepts:\n  - {name: rick, class_word: man, images: [a.png]}\n"
LONG = "x" * 300
CASES = [
    Case("nothing-in-it", lambda root: (root / "set").mkdir(), ("holds no concept set",)),
    Case(
        "two-lists",
        lambda root: [text(n, "[]")(root) for n in ("a.json", "b.json")],
        ("holds 2 .json files", "dataset.root="),
    ),
    # concepts.yaml as a file
    yaml("invalid", "concepts: [}", "is not valid YAML"),
    yaml("empty", "", "field 'concepts' holds no list"),
    yaml("mapping", "concepts: {rick: man}", "field 'concepts' holds no list"),
    yaml("other-encoding", "concepts: é".encode("latin-1"), "is not in UTF-8"),
    yaml("binary", bytes(range(256)), "is not in UTF-8"),
    yaml("python-tag", "concepts: !!python/object/apply:os.system [ls]", "is not valid YAML"),
    yaml("date", "concepts: [2020-99-99]", "Correct it there"),
    yaml("huge-integer", f"concepts: [{'9' * 6000}]", "4300 digits"),
    yaml("huge-hex", f"concepts: [0x{'f' * 6000}]", "a number of more than 19 digits"),
    yaml(
        "50-mb",
        "concepts:\n" + "- {name: rick, images: a.png, class_word: man}\n" * 1_100_000,
        "has 51,700,010 bytes",
        "at most 1,048,576",
    ),
    yaml("many-entries", "concepts:\n" + "- [a]\n" * 100_000, "more than 50,000 values"),
    yaml("many-problems", "concepts:\n" + "- 7\n" * 3000, "and 2,980 more problems"),
    yaml("deep", "concepts: " + "[" * 5000 + "]" * 5000, "is nested too deeply"),
    yaml("bomb-concepts", bomb("concepts: *i"), "more than 50,000 values"),
    yaml("bomb-parts", bomb("concepts: [{name: rick, parts: *i}]"), "more than 50,000 values"),
    yaml("bomb-name", bomb("concepts: [{name: *i}]"), "more than 50,000 values"),
    yaml("itself", "concepts: &a [*a]", "line 1 stands for itself"),
    yaml("twice", TWO + "concepts: []\n", "line 3: 'concepts' is written twice"),
    yaml("field-twice", "concepts: [{name: rick, name: bob}]", "line 1: 'name' is written twice"),
    yaml("unknown-top-level", TWO + "sizes: 3\n", "unknown field 'sizes'", "concepts, name"),
    yaml("set-name", TWO + "name: [a, b]\n", "name: found a list of 2"),
    yaml("entry", "concepts: [[rick, man]]", "concept 1 is a list of 2"),
    yaml(
        "used-twice",
        TWO + "  - {name: rick, class_word: man, images: [b.png]}\n",
        "concept 'rick': name is used twice",
    ),
    yaml(
        "image-in-two",
        TWO + "  - {name: bob, class_word: man, images: [a.png]}\n",
        "concept 'bob': a.png is the same image as a.png of concept 'rick'",
        "a mask or a box",
    ),
    # a concept's fields
    native("unknown-field", "unknown field 'colour'", colour="red"),
    native("name-missing", "name is missing", name="null"),
    native("name-number", "name: found 7", name="7"),
    native("name-capitals", "concept 'Rick!': name holds characters", name="Rick!"),
    native("name-direction", "concept 'ri\\u202eck': name holds", name='"ri\\u202Eck"'),
    native("name-newline", r"concept 'ri\nck': name holds", name='"ri\\nck"'),
    native("name-300", "name has 300 characters. Use at most 40", name=LONG),
    native("name-is-class-word", "name 'man' collides", name="man"),
    native("class-word-missing", "class_word is empty", class_word="''"),
    native(
        "class-word-unknown",
        "no word for cup",
        "such as cat, lynx",
        "clif_exp.toonworld words lists",
        class_word="cup",
    ),
    native("class-word-piece", "no word for ird", class_word="ird"),
    native("class-word-90", "class_word", "has 90 words", class_word="man " * 90),
    native("class-word-long", "class_word", "has 300 characters", class_word=LONG),
    native("class-word-mapping", "class_word: found a mapping of 1", class_word="{a: b}"),
    native("class-word-mark", "is not made of words", class_word="<man>"),
    native("parts-text", "parts: found 'hat'", parts="hat"),
    native("parts-number", "parts: found 7 in the list", parts="[hat, 7]"),
    native("parts-100-words", "parts: 'red red", "has 100 words", parts=f"[{'red ' * 100}]"),
    native("parts-many", "parts: found 31", parts=str([f"hat{i}" for i in range(31)])),
    native("parts-twice", "a name is listed twice", parts="[hat, hat]"),
    native("captions-count", "captions: found 2 for 1 images", captions="[a, b]"),
    native("captions-mapping", "captions: found a mapping of 1 in the list", captions="[{a: b}]"),
    native("caption-long", "a.png: its caption has 2,999 characters", captions=f"[{'a b ' * 750}]"),
    native("caption-tokens", "a.png: its caption has 1", "reads 77", captions=f"[{'man ' * 100}]"),
    native("images-missing", "images: found nothing", images="null"),
    native("images-gone", "images/gone.png is missing", images="[images/gone.png]"),
    native("images-folder-gone", "images: 'gone' does not exist", images="gone"),
    native("images-300", "File name too long", images=f"[{LONG}.png]"),
    native("images-twice", "a.png is the same image as a.png. Remove one", images="[a.png, a.png]"),
    native(
        "images-field",
        "images: found a mapping of 2 with 'size'",
        images="[{file: a.png, size: 3}]",
    ),
    native("images-mask-list", "images: found a mapping of 2", images="[{file: a.png, mask: [b]}]"),
    native("masks-number", "masks: 7 is no folder", masks="7"),
    native("masks-count", "masks: found 2 for 1 images", masks="[a.png, b.png]"),
    native("masks-mapping", "masks: found a mapping of 1 in the list", masks="[{a: b}]"),
    native(
        "point-nan", "a.png: point: found a list of 2", images="[{file: a.png, point: [.nan, 1]}]"
    ),
    native(
        "point-huge",
        "a.png: point: found a list of 2",
        images=f"[{{file: a.png, point: [0x{'f' * 400}, 1]}}]",
    ),
    native(
        "box-outside",
        "box [5, 5, 90, 9] does not lie",
        images="[{file: a.png, box: [5, 5, 90, 9]}]",
    ),
    Case("mask-one-pixel", mask(marked=1), ("mask.png marks only 1 of 4,096 pixels",)),
    Case("mask-nothing", mask(marked=0), ("mask.png marks nothing",)),
    Case("mask-everything", mask(marked=4096), ("mask.png marks the whole image",)),
    Case("mask-size", mask(marked=99, side=20), ("mask.png is a mask of 20 x 20 px",)),
    Case("image-fifo", fifo, ("pipe.png is missing",)),
    # other tools' files
    listed("invalid", "[", "is not valid JSON"),
    listed("no-list", "{}", "is no list of entries with 'instance_data_dir'"),
    listed("deep", "[" * 100_000 + "]" * 100_000, "is nested too deeply"),
    listed("huge-integer", f'[{{"instance_data_dir": {"9" * 6000}}}]', "4300 digits"),
    listed("50-mb", entries({}) + " " * 50_000_000, "bytes. A description has at most 1,048,576"),
    listed(
        "many-problems",
        entries(*[{"instance_data_dir": f"d{i}"} for i in range(5000)]),
        "instance_data_dir 'd0' does not exist below",
        "more problems",
    ),
    listed(
        "twice", '[{"instance_data_dir": "good", "instance_data_dir": "."}]', "is written twice"
    ),
    listed("number", entries({"instance_data_dir": 7}), "entry 1: instance_data_dir: found 7"),
    listed("structure", entries({"class_word": [[1]]}), "entry 1: class_word: found a list of 1"),
    listed("captions-gone", entries({"caption_dir": "gone"}), "caption_dir 'gone' does not exist"),
    listed("no-class", entries({"class_prompt": ""}), "concept 'x': class_prompt is missing"),
    listed("models", '[{"lora_path": "a.pth"}]', "lists Mix-of-Show's trained models"),
    Case("folder-no-class", folder("rick"), ("rick/: class_word: the folder's name holds none",)),
    Case("folder-300", folder(f"{'x' * 200} man"), ("name has 200 characters",)),
    Case(
        "caption-2-mb",
        folder("rick man", a_txt="man " * 500_000),
        ("rick man/a.txt: has 2,000,000",),
    ),
    Case(
        "caption-encoding",
        folder("rick man", a_txt=b"\xff\xfe\x00"),
        ("rick man/a.txt: is not in UTF-8",),
    ),
    Case(
        "metadata-invalid", folder("rick man", metadata_jsonl="{"), ("line 1: is not valid JSON",)
    ),
    Case(
        "metadata-deep", folder("rick man", metadata_jsonl="[" * 99_999), ("line 1: is nested too",)
    ),
    Case(
        "metadata-no-file",
        folder("rick man", metadata_jsonl="{}"),
        ("no JSON object with file_name",),
    ),
    Case(
        "metadata-gone",
        folder("rick man", metadata_jsonl='{"file_name": "b.png"}'),
        ("'b.png' is missing",),
    ),
    Case(
        "metadata-number",
        folder("rick man", metadata_jsonl='{"file_name": "a.png", "text": 7}'),
        ("line 1: text: found 7",),
    ),
]


BY_COMMAND = (
    *("two-lists", "yaml-50-mb", "yaml-many-problems", "json-deep", "mask-one-pixel"),
    # what only the base model's tokenizer says
    *("name-is-class-word", "class-word-unknown", "class-word-piece", "caption-tokens"),
)
"""Cases that the command gets; the others what it calls first, which takes no second each."""


def written(case: Case, root: Path) -> Path:
    """Write a case's set among good images; returns what a user would name."""
    for name in ("a.png", "b.png", "good/c.png"):
        write_image(root / name, size=(64, 64))
    case.write(root)
    return root / "set" if (root / "set").is_dir() else root


def says(case: Case, message: str) -> None:
    """Check that a message is a case's, short, and nothing that a terminal would act upon."""
    for expected in case.says:
        assert expected in message, message
    assert message.replace("\n", "").isprintable()
    assert len(message.splitlines()) <= 22
    assert len(message) < 12_000


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.id not in BY_COMMAND], ids=lambda case: case.id
)
def test_bad_input_is_refused_with_what_to_do(case, tmp_path):
    given = written(case, tmp_path)
    with pytest.raises((ValueError, FileNotFoundError)) as refused:  # what the command expects
        read_concept_set(given)
    says(case, str(refused.value))


@pytest.mark.parametrize("name", BY_COMMAND)
def test_the_command_refuses_bad_input_at_once(name, clif_exp, tmp_path):
    (case,) = [case for case in CASES if case.id == name]
    result = clif_exp(
        "--run",  # no sweep: else Hydra composes the config once more to find out
        "dataset=folder",
        f"dataset.root={written(case, tmp_path / 'input')}",
        "callbacks=quiet",
        store=tmp_path / "store",
        timeout=SECONDS,
    )
    assert result.code == 2, result.output + result.errors
    says(case, result.errors)
    assert "Traceback" not in result.errors
    assert result.errors.startswith("clif_exp: error: ")
    assert result.summary()["status"] == "refused"
    assert (result.folders[-1] / "summary.json").stat().st_size < 20_000
    assert not (tmp_path / "store").exists()


def test_a_size_beyond_the_set_is_refused_with_the_choice(clif_exp, tmp_path):
    write_image(tmp_path / "set" / "rick man" / "a.png")
    result = clif_exp("dataset=folder", f"dataset.root={tmp_path / 'set'}", "dataset.size=2")
    assert result.code == 2
    assert "dataset.size is 2, but the set has 1 concepts" in result.errors
    assert "dataset.size=null for all" in result.errors
