"""Concept sets: what is read, what is refused and how, and what the fingerprint depends on."""

from __future__ import annotations

import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clif_exp.concepts.reading import read_concept_set, write_concepts_yaml
from clif_exp.concepts.vocabulary import check_against_tokenizer, check_lengths
from support import concepts_yaml, write_image


@pytest.fixture
def rick_and_morty(tmp_path: Path) -> Path:
    for name in ("rick", "morty"):
        for number in range(3):
            write_image(tmp_path / "set" / "images" / name / f"{number:02d}.png", seed=len(name))
    mask = np.zeros((40, 48), np.uint8)
    mask[10:30, 10:30] = 255
    (tmp_path / "set" / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "set" / "masks" / "01.png")
    return concepts_yaml(
        tmp_path / "set",
        "concepts:\n  - {name: rick, class_word: man, images: images/rick, masks: masks, parts:"
        " [hair, coat]}\n  - name: morty\n    class_word: boy\n    images:\n      -"
        " images/morty/00.png\n      - {file: images/morty/01.png, box: [2, 3, 40, 38], caption: a"
        " photo}\n",
    )


def test_the_native_form_is_read_with_masks_boxes_captions_and_parts(rick_and_morty):
    found = read_concept_set(rick_and_morty)
    rick, morty = found.concepts
    assert found.names == ("rick", "morty")
    assert rick.parts == ("hair", "coat")
    assert [image.mask is not None for image in rick.images] == [False, True, False]
    assert morty.images[1].box == (2, 3, 40, 38)
    assert morty.images[1].caption == "a photo, <morty>"
    assert read_concept_set(rick_and_morty, size=1).names == ("rick",)


def test_what_is_written_reads_back_the_same(rick_and_morty):
    before = read_concept_set(rick_and_morty)
    write_concepts_yaml(rick_and_morty, concepts=before.concepts, name=before.name)
    assert read_concept_set(rick_and_morty) == before


def test_the_fingerprint_follows_contents_and_fields_but_not_the_place(rick_and_morty, tmp_path):
    before = read_concept_set(rick_and_morty).fingerprint()
    moved = shutil.copytree(rick_and_morty, tmp_path / "elsewhere")
    assert read_concept_set(moved).fingerprint() == before
    write_image(moved / "images" / "rick" / "00.png", seed=99)
    assert read_concept_set(moved).fingerprint() != before
    text = (rick_and_morty / "concepts.yaml").read_text()
    concepts_yaml(rick_and_morty, text.replace("class_word: man", "class_word: woman"))
    assert read_concept_set(rick_and_morty).fingerprint() != before


def test_every_problem_of_a_set_stands_in_one_message(tmp_path):
    root = tmp_path / "bad"
    images = root / "images"
    good = write_image(images / "00.png", size=(300, 200))
    truncated = good.read_bytes()
    (images / "01.png").write_bytes(truncated[: len(truncated) // 2])
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(images / "02.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40)).save(images / "03.png")
    (images / "04.jpg").write_text("not an image")
    (images / "05.png").touch()
    (images / "06.png").write_bytes(bomb(60_000, 60_000))
    Image.new("RGB", (8, 8)).save(images / "07.png")
    shutil.copy(good, images / "08.png")
    (root / "empty").mkdir()
    concepts_yaml(
        root,
        "concepts:\n"
        "  - {name: Rick!, class_word: '', images: images, colour: red}\n"
        "  - {name: morty, class_word: boy, images: empty}\n"
        "  - {name: morty, class_word: boy, images: [images/00.png, images/gone.png]}\n",
    )
    with pytest.raises(ValueError, match=r"concepts\.yaml") as refused:
        read_concept_set(root)
    message = str(refused.value)
    for expected in (
        "concept 'Rick!': name holds characters",
        "unknown field 'colour'",
        "class_word is empty",
        "images/01.png is truncated",
        "images/02.gif is animated",
        "images/03.png has mode I;16",
        "images/04.jpg is not an image",
        "images/05.png is empty (0 bytes)",
        "images/06.png",
        "images/07.png has only 8 x 8",
        "images/08.png is the same image as images/00.png",
        "concept 'morty': name is used twice",
        "images: none found",
        "images/gone.png is missing",
    ):
        assert expected in message, f"{expected!r} is not in:\n{message}"
    assert "pixels" in next(line for line in message.splitlines() if "06.png" in line)
    assert all(line.startswith("concepts.yaml: concept ") for line in message.splitlines())


def bomb(width: int, height: int) -> bytes:
    """A tiny PNG whose header promises a huge image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1"])
def test_modes_that_lose_nothing_are_converted(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    write_image(tmp_path / "images" / f"00.{suffix}", mode=mode)
    concepts_yaml(tmp_path, "concepts: [{name: rick, class_word: man, images: images}]")
    assert len(read_concept_set(tmp_path).concepts[0].images) == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("masks: [m.png]", "m.png is a mask of 20 x 20 px for an image of 48 x 40 px"),
        (
            "images: [{file: images/00.png, point: [60, 2]}]",
            "point [60, 2] lies outside the image of 48 x 40 px",
        ),
        (
            "images: [{file: images/00.png, box: [5, 5, 3, 9]}]",
            "box [5, 5, 3, 9] does not lie in the image",
        ),
        ("captions: [one, two]", "captions: found 2 for 1 images"),
        ("parts: hat", "parts: found 'hat'"),
    ],
)
def test_fields_that_do_not_fit_their_image_are_refused(tmp_path, line, expected):
    write_image(tmp_path / "images" / "00.png")
    Image.new("L", (20, 20), 255).save(tmp_path / "m.png")
    images = "" if line.startswith("images") else "    images: images\n"
    concepts_yaml(tmp_path, f"concepts:\n  - name: rick\n    class_word: man\n{images}    {line}\n")
    with pytest.raises(ValueError, match=re.escape(expected)):
        read_concept_set(tmp_path)


def test_a_folder_that_is_no_concept_set_says_what_would_be(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        read_concept_set(tmp_path / "gone")
    with pytest.raises(ValueError, match="holds no concept set"):
        read_concept_set(tmp_path)
    concepts_yaml(tmp_path, "concepts: [}")
    with pytest.raises(ValueError, match="not valid YAML"):
        read_concept_set(tmp_path)


def test_toonworlds_words_decide_over_class_words_and_names(rick_and_morty):
    from clif_exp.toonworld.architectures import build_tokenizer
    from clif_exp.toonworld.grammar import VOCABULARY

    def check(**changes: str) -> str:
        text = (rick_and_morty / "concepts.yaml").read_text()
        before = {"word": "class_word: man", "name": "name: morty"}
        for key, value in changes.items():
            text = text.replace(before[key], f"{before[key].split(':')[0]}: {value}")
        (rick_and_morty / "changed.yaml").write_text(text)
        check_against_tokenizer(
            read_concept_set(rick_and_morty / "changed.yaml"),
            tokenizer=build_tokenizer(),
            words=VOCABULARY,
            examples=("cat", "robot"),
        )
        return "accepted"

    assert check() == "accepted"
    with pytest.raises(ValueError, match="class_word 'trombonist'") as refused:
        check(word="trombonist", name="cat")
    assert "name 'cat' collides" in str(refused.value)
    # "ird" is a piece of the tokenizer's "weird", and "cap" is spelt like "cup".
    for word in ("ird", "cup"):
        with pytest.raises(ValueError, match=r"trained on, such as cat, robot\.$"):
            check(word=word)
    with pytest.raises(ValueError, match=r"trained on, such as woman\.$"):
        check(word="womna")


def test_prompts_that_the_text_encoder_would_cut_are_refused(rick_and_morty):
    from clif_exp.toonworld.architectures import build_tokenizer

    concepts, tokenizer = read_concept_set(rick_and_morty), build_tokenizer()
    prompt = "a photo of " + "<rick> and <morty> and " * 5 + "a dog"
    check_lengths(concepts, tokenizer=tokenizer, num_tokens=4, read={prompt: prompt})
    with pytest.raises(ValueError, match=r"has 97 tokens, the text encoder reads 77\. Shorten"):
        check_lengths(concepts, tokenizer=tokenizer, num_tokens=8, read={prompt: prompt})
    read = {"a dog": "a dog", prompt: "<rick> and <morty>"}
    with pytest.raises(ValueError, match=r"'<rick> and <morty>', read in a part .*, has 97 tokens"):
        check_lengths(concepts, tokenizer=tokenizer, num_tokens=8, read=read)
