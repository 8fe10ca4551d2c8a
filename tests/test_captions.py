"""Users' captions: where the concept is placed in them, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clif_exp.concepts.captions import place_concept
from clif_exp.concepts.concept import Concept
from clif_exp.concepts.reading import read_concept_set
from clif_exp.diffusion.images import single_images
from clif_exp.prompts.evaluation import TRAINING_TEMPLATES
from support import concepts_yaml, write_image


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a photo of <old_rick> in a lab", "a photo of <old_rick> in a lab"),
        ("<Old Rick> at  work", "<old_rick> at work"),
        ("a <TOK>, in a room", "a <old_rick>, in a room"),
        ("{} and his {} mug", "<old_rick> and his <old_rick> mug"),
        ("<OLD> beside a car", "<old_rick> beside a car"),
        ("Old Rick looks at old-rick's coat", "<old_rick> looks at <old_rick>'s coat"),
        ("a photo of a tall man and a man", "a photo of a tall <old_rick> and a man"),
        ("a man on the beach", "<old_rick> on the beach"),
        ("the man's hat", "the <old_rick>'s hat"),
        ("a woman, manly", "a woman, manly, <old_rick>"),
        ("in a forest at night.", "in a forest at night, <old_rick>"),
        ("<old_rick> and morty", "<old_rick> and morty"),
        ("<TOK> beside <morty>", "<old_rick> beside <morty>"),
    ],
)
def test_the_concept_stands_where_the_caption_speaks_of_it(caption, expected):
    concept = Concept("old_rick", "man", ())
    placed = place_concept(caption, concept, others=["morty"], aliases={"old": "old_rick"})
    assert placed.text == expected


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a photo of <morty>", "names morty, but not rick"),
        ("Morty, a man in a hat", "names morty, but not rick"),
        ("<rick> and <summer>", "names <summer>, which is no concept of this run"),
        ("a man <lora:x:1>", "names <lora:x:1>, which is no concept of this run"),
    ],
)
def test_a_caption_of_another_concept_is_left_out_with_a_reason(caption, reason):
    placed = place_concept(caption, Concept("rick", "man", ()), others=["morty"], aliases={})
    assert (placed.text, placed.reason) == (None, reason)


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    for name in ("rick", "morty"):
        for number in range(3):
            write_image(tmp_path / name / f"{number}.png", seed=len(name))
    return concepts_yaml(
        tmp_path,
        "concepts:\n"
        "  - {name: rick, class_word: man, images: rick, captions: ['<rick> at home', a man, '']}\n"
        "  - {name: morty, class_word: boy, images: morty, captions: [rick, '<TOK>', null]}\n",
    )


def test_what_became_of_captions_is_counted_and_said(captioned):
    intake = read_concept_set(captioned).intake
    assert intake.captions_kept == 1
    assert [change.used for change in intake.captions_rewritten] == ["<rick>", "<morty>"]
    (left_out,) = intake.captions_left_out
    assert (left_out.file, left_out.caption) == ("morty/0.png", "rick")
    assert intake.lines() == [
        "captions: 1 used as they are, 2 rewritten, 1 left out; rewritten as 'a man' -> '<rick>';"
        " left out: morty/0.png names rick, but not morty"
    ]
    assert intake.record()["captions_changed"][0]["caption"] == "a man"


def test_stage_2_trains_on_captions_as_placed_and_on_templates_without_one(captioned):
    found = [image.captions for image in single_images(read_concept_set(captioned), segments={})]
    rick, morty = (
        tuple(template.format(f"<{name}>") for template in TRAINING_TEMPLATES)
        for name in ("rick", "morty")
    )
    assert found == [("<rick> at home",), ("<rick>",), rick, morty, ("<morty>",), morty]


def test_a_smaller_size_is_said_and_its_captions_may_not_name_those_left_out(captioned):
    text = (captioned / "concepts.yaml").read_text()
    concepts_yaml(captioned, text.replace("a man, ''", "a man, '<rick> and <morty>'"))
    intake = read_concept_set(captioned, size=1).intake
    assert intake.concepts_left_out == ("morty",)
    assert "concepts left out: morty" in intake.lines()
    assert intake.captions_left_out[0].reason == "names <morty>, which is no concept of this run"
