"""The experiments on the field's benchmarks, on drawn images in their layouts, by tiny models."""

from __future__ import annotations

import json

import pytest

from benchmark_folders import customconcept101_lists, drawn_images, dreambench_table
from clif_exp.base_models.spec import packaged_weights
from support import SMALL


@pytest.fixture
def tiny_sd15(backbones) -> list[str]:
    """The overrides that name a tiny SD 1.5 and ToonWorld's judge."""
    spec = backbones("sd15")
    return [
        f"model.path={spec.path}",
        f"model.contrastive.text_encoder={spec.contrastive['text_encoder']}",
        f"evaluation.judge.path={packaged_weights() / 'judge_clip'}",
    ]


def drawn(result) -> list[dict]:
    """What was drawn for evaluation."""
    fingerprint = result.summary()["stages"]["generation"]["fingerprint"]
    (file,) = result.folders[-1].parents[2].glob(f"**/generation/{fingerprint}/generations.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_dreambench_runs_from_its_folder(clif_exp, tiny_sd15, tmp_path):
    root = tmp_path / "dreambench"
    drawn_images(root, "can", "monster_toy", "robot_toy")
    dreambench_table(root, {"can": "dog", "monster_toy": "cat", "robot_toy": "hat"})
    chosen = [f"dataset.root={root}", "dataset.names=[monster_toy,robot_toy]"]
    result = clif_exp("+experiment=dreambench", *chosen, *SMALL, *tiny_sd15, store=None)
    assert result.code == 0, result.errors
    assert "concepts left out: can" in result.output
    lines = drawn(result)
    single = [line["prompt"] for line in lines if line["kind"] == "single"]
    assert single == [
        "a <monster_toy> on the beach",
        "a <monster_toy> wearing a red hat",
        "a wet <monster_toy>",
        "a <robot_toy> on the beach",
        "a red <robot_toy>",
    ]
    pairs = [line for line in lines if line["kind"] == "multi"]
    assert pairs[0]["prompt"] == "a photo of <monster_toy> and <robot_toy>"
    metrics = result.summary()["metrics"]
    assert metrics["single/pictures"] == 5
    assert metrics["multi/pictures"] == len(pairs) == metrics["multi/pairs_seen/pictures"]
    assert {"single/text_alignment", "single/image_alignment"} <= set(metrics)


def test_customconcept101_runs_from_its_folder(clif_exp, tiny_sd15, tmp_path):
    root = tmp_path / "customconcept101"
    classes = {"pet_cat1": "cat", "pet_dog1": "dog", "toy_bear": "man"}
    drawn_images(root / "benchmark_dataset", *classes)
    customconcept101_lists(root, classes)
    chosen = [f"dataset.root={root}", "dataset.names=[pet_cat1,pet_dog1]"]
    result = clif_exp("+experiment=customconcept101", *chosen, *SMALL, *tiny_sd15, store=None)
    assert result.code == 0, result.errors
    assert "names one concept twice, left out" in result.output
    by_kind = {
        kind: [x for x in drawn(result) if x["kind"] == kind] for kind in ("single", "multi")
    }
    assert [line["prompt"] for line in by_kind["single"]][:2] == [
        "Photo of a <pet_cat1>.",
        "<pet_cat1> on the beach.",
    ]
    assert [line["sides"] for line in by_kind["multi"]] == [None, ["left", "right"]]
    assert result.summary()["metrics"]["multi/pictures"] == 2
    intake = result.summary()["intake"]
    assert intake["concepts_left_out"] == ["toy_bear"]


@pytest.mark.parametrize("name", ["dreambench", "customconcept101"])
def test_a_missing_benchmark_is_refused_with_what_to_download(clif_exp, tmp_path, name):
    for given in ([], [f"dataset.root={tmp_path / 'gone'}"]):
        result = clif_exp(f"+experiment={name}", *given, store=tmp_path / "store")
        assert result.code == 2
        assert result.errors.startswith("clif_exp: error: dataset.root: ")
        assert "git clone https://github.com/" in result.errors
        assert len(result.errors.splitlines()) == 1
        assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a photo of <milo> and <oto>", "mine.txt: line 1: <oto> is no concept of this run; did"),
        ("<milo> and " * 40, "encoder reads 77. Shorten it where it is yours"),
        ("", "mine.txt: holds no prompt"),
        (None, "mine.txt' does not exist"),
    ],
)
def test_bad_prompts_are_refused_before_anything_runs(clif_exp, tmp_path, line, says):
    file = tmp_path / "mine.txt"
    if line is not None:
        file.write_text(line)
    result = clif_exp(f"generation.prompts.source={file}", store=tmp_path / "store")
    assert result.code == 2
    assert result.errors.startswith("clif_exp: error: ")
    assert says in result.errors
    assert len(result.errors.splitlines()) == 1
    assert not list((tmp_path / "store").glob("segments*")), "nothing is curated"
