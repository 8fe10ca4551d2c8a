"""Concept sets in the layouts of other tools, written here after the authors' own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark_folders import customconcept101_lists, dreambench_table
from clif_exp.concepts.concept import Concept, ConceptImage
from clif_exp.concepts.reading import read_concept_set
from support import write_image


def write_json(file: Path, *entries: dict[str, str]) -> Path:
    file.write_text(json.dumps(list(entries)))
    return file


def mix_of_show(root: Path, folder: str, *captions: str) -> dict[str, str]:
    """A concept as Mix-of-Show lays it out (datasets/data_cfgs), with its JSON entry."""
    base = root / "data" / folder
    for number, caption in enumerate(captions):
        write_image(base / "image" / f"{number}.png", seed=len(folder))
        (base / "caption").mkdir(exist_ok=True)
        (base / "caption" / f"{number}.txt").write_text(caption)
    return {
        "instance_prompt": "<TOK>",
        "instance_data_dir": f"datasets/data/{folder}/image",
        "caption_dir": f"datasets/data/{folder}/caption",
    }


@pytest.mark.parametrize("class_prompt", ["cat", "photo of a cat", "reg/samples_cat/caption.txt"])
def test_custom_diffusions_list_is_read_as_it_is(tmp_path, class_prompt):
    write_image(tmp_path / "data" / "cat" / "a.png")
    entry = {
        "instance_prompt": "photo of a <new1> cat",
        "class_prompt": class_prompt,
        "instance_data_dir": "./data/cat",
        "class_data_dir": "./reg",
    }
    write_json(tmp_path / "concepts_list.json", entry)
    (concept,) = read_concept_set(tmp_path).concepts
    assert (concept.name, concept.class_word, len(concept.images)) == ("new1", "cat", 1)


def test_mix_of_shows_json_takes_class_words_from_captions_and_folders(tmp_path):
    entries = [
        mix_of_show(
            tmp_path, "characters/real/Harry_Potter", "a <TOK> man, in a robe", "<TOK>, a man"
        ),
        mix_of_show(tmp_path, "objects/real/cat/catA", "a <TOK> on the floor", "<TOK> sitting"),
        mix_of_show(tmp_path, "objects/real/chair", "a <TOK>, in a room"),
    ]
    found = read_concept_set(write_json(tmp_path / "all.json", *entries))
    assert [(c.name, c.class_word) for c in found.concepts] == [
        ("harry_potter", "man"),
        ("cata", "cat"),
        ("chair_1", "chair"),
    ]
    assert found.concepts[0].images[0].caption == "a <harry_potter> man, in a robe"
    assert found.concepts[2].images[0].caption == "a <chair_1>, in a room"
    assert found.intake.lines()[:4] == [
        "concept 'harry_potter': class word 'man', taken from its captions",
        "concept 'cata': class word 'cat', taken from its folder",
        "concept 'chair': class word 'chair', taken from its folder",
        "concept 'chair' is called <chair_1>: 'chair' is a class word of the set",
    ]


def test_mix_of_shows_json_asks_for_a_class_that_nothing_says(tmp_path):
    entry = mix_of_show(
        tmp_path, "characters/real/Harry_Potter", "<TOK>, in a robe", "<TOK> smiling"
    )
    file = write_json(tmp_path / "potter.json", entry)
    with pytest.raises(ValueError, match="concept 'harry_potter': class_prompt is missing"):
        read_concept_set(tmp_path)
    write_json(file, entry | {"class_prompt": "man"})
    (concept,) = read_concept_set(file).concepts
    images = sorted((tmp_path / "data" / "characters/real/Harry_Potter/image").iterdir())
    captions = ["<harry_potter>, in a robe", "<harry_potter> smiling"]
    assert concept == Concept(
        "harry_potter",
        "man",
        tuple(
            ConceptImage(file, caption=text) for file, text in zip(images, captions, strict=True)
        ),
    )


def test_several_lists_and_lists_of_models_are_refused_with_what_to_give(tmp_path):
    file = write_json(tmp_path / "fusion.json", {"lora_path": "a.pth", "concept_name": "<a1> <a2>"})
    with pytest.raises(ValueError, match=r"fusion\.json: lists Mix-of-Show's trained models"):
        read_concept_set(tmp_path)
    write_json(tmp_path / "other.json", {})
    with pytest.raises(ValueError, match=rf"holds 2 \.json files.* dataset\.root={file}"):
        read_concept_set(tmp_path)


def test_dreambenchs_subjects_named_like_a_class_word_get_a_number(tmp_path):
    classes = {"cat": "cat", "cat2": "cat", "bear_plushie": "stuffed animal", "rc_car": "toy"}
    for name in (*classes, "unlisted"):
        write_image(tmp_path / name / "00.jpg", seed=len(name))
    (tmp_path / "cat" / "00.txt").write_text("<cat> on a cat tree")
    lines = [f"{name},{word}" for name, word in classes.items()]
    text = "\n".join(["Classes", "", "subject_name,class", *lines, "", "Prompts", ""])
    (tmp_path / "prompts_and_classes.txt").write_text(text)
    found = read_concept_set(tmp_path)
    assert [(c.name, c.class_word) for c in found.concepts] == [
        ("bear_plushie", "stuffed animal"),
        ("cat_1", "cat"),
        ("cat2", "cat"),
        ("rc_car", "toy"),
    ]
    assert found.concepts[1].images[0].caption == "<cat_1> on a cat tree"
    assert found.intake.renamed == (("cat", "cat_1"),)
    assert "1 folders that prompts_and_classes.txt does not list" in found.intake.lines()[0]
    assert "concept 'cat' is called <cat_1>: 'cat' is a class word of the set" in (
        found.intake.lines()
    )


def test_folders_say_name_and_class_word_and_carry_captions(tmp_path):
    write_image(tmp_path / "10_rick old man" / "00.png")
    (tmp_path / "10_rick old man" / "00.txt").write_text("rick in his lab")
    write_image(tmp_path / "morty boy" / "x.png")
    row = {"file_name": "x.png", "text": "a boy at home"}
    (tmp_path / "morty boy" / "metadata.jsonl").write_text(json.dumps(row))
    rick, morty = read_concept_set(tmp_path).concepts
    assert (rick.name, rick.class_word) == ("rick", "old man")
    assert rick.images[0].caption == "<rick> in his lab"
    assert (morty.name, morty.class_word) == ("morty", "boy")
    assert morty.images[0].caption == "<morty> at home"


def test_a_folder_outside_of_the_set_is_read_and_said(tmp_path):
    write_image(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "set").mkdir()
    entry = {"instance_prompt": "<x>", "class_word": "man", "instance_data_dir": "../elsewhere"}
    found = read_concept_set(write_json(tmp_path / "set" / "concepts_list.json", entry))
    assert len(found.concepts[0].images) == 1
    (line,) = found.intake.lines()
    assert line.endswith(f"images are read from outside of dataset.root: {tmp_path / 'elsewhere'}")


def test_customconcept101s_concepts_are_called_like_their_folders_and_chosen_by_name(tmp_path):
    classes = {"pet_cat1": "cat", "pet_cat2": "cat", "wearable_shoes1": "shoes"}
    customconcept101_lists(tmp_path, classes)
    for seed, name in enumerate(classes):
        write_image(tmp_path / "benchmark_dataset" / name / "a.png", seed=seed)
    found = read_concept_set(tmp_path)
    assert {c.name: c.class_word for c in found.concepts} == classes
    chosen = read_concept_set(tmp_path, names=["wearable_shoes1", "pet_cat1"])
    assert chosen.names == ("pet_cat1", "wearable_shoes1"), "in the order of the set"
    assert chosen.intake.lines() == ["concepts left out: pet_cat2"]
    with pytest.raises(
        ValueError, match=r"dataset\.names: 'pet_cat3' is no concept of dataset"
    ) as (refused):
        read_concept_set(tmp_path, names=["pet_cat3", "pet_cat1"])
    assert "choose from pet_cat2, pet_cat1" in str(refused.value)


def test_concepts_are_chosen_by_the_names_of_the_set_or_of_the_run(tmp_path):
    dreambench_table(tmp_path, {"cat": "cat", "cat2": "cat"})
    for name in ("cat", "cat2"):
        write_image(tmp_path / name / "00.jpg", seed=len(name))
    for name in ("cat", "cat_1"):
        assert read_concept_set(tmp_path, names=[name]).names == ("cat_1",)
