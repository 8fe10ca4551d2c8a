"""What stage 1 makes of the embeddings: its report, their norms, and the basis they stay in."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from safetensors.torch import load_file

from clif_exp.base_models.loading import load_contrastive
from clif_exp.base_models.tokens import load_concept_embeddings


def test_the_report_compares_retrieval_and_loss_with_those_before_training(
    tmp_path, backbones, train
):
    train(
        tmp_path,
        spec=backbones("sd15"),
        steps=31,
        learning_rate=0.02,
        weight_decay=0.0,
        batch_size=12,
    )
    report = json.loads((tmp_path / "embedding_report.json").read_text())["text_encoder"]
    before, after = report["mistaken"]["before"], report["mistaken"]["after"]
    assert before["accuracy"] == before["chance"] == 0.5
    assert after["accuracy"] > 0.8
    assert (
        report["text_distance"]["before"]["rick"]["morty"]
        == 0
        < report["text_distance"]["after"]["rick"]["morty"]
    )
    assert report["nearest_words"]["before"]["rick"][0][0] == "man"
    assert report["loss"] < report["loss_frozen_rows"]


def test_the_loss_of_a_short_training_is_that_of_its_last_step(tmp_path, backbones, train):
    trained = {"learning_rate": 0.02, "weight_decay": 0.0, "batch_size": 12}
    train(tmp_path, spec=backbones("sd15"), steps=4, **trained)
    report = json.loads((tmp_path / "embedding_report.json").read_text())["text_encoder"]
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        losses = [float(row["loss"]) for row in csv.DictReader(stream)]
    assert report["loss"] == round(losses[-1], 4) != round(losses[0], 4)
    assert "loss_frozen_rows" not in report, (
        "measured at the first step only, where nothing differs"
    )


def test_the_norm_term_keeps_embeddings_near_the_vocabularys_norm(tmp_path, backbones, train):
    norms = []
    for name, weight in (("free", 0.0), ("kept", 100.0)):
        train(
            tmp_path / name,
            spec=backbones("sd15"),
            steps=20,
            learning_rate=0.05,
            weight_decay=0.0,
            norm_loss_weight=weight,
        )
        report = json.loads((tmp_path / name / "embedding_report.json").read_text())["text_encoder"]
        norms.append(report["norm"]["after"]["rick"] / report["vocabulary_norm"]["mean"])
    free, kept = norms
    assert abs(kept - 1) < 0.5 * abs(free - 1)


@pytest.mark.parametrize(("rate", "outside"), [(0.5, ["rick", "morty"]), (1e-4, [])])
def test_embeddings_that_leave_the_vocabulary_are_warned_about(
    rate, outside, tmp_path, backbones, caplog, train
):
    spec = backbones("sd15")
    changes = {"steps": 6, "weight_decay": 0.0, "learning_rate": rate}
    train(tmp_path, spec=spec, **changes)
    report = json.loads((tmp_path / "embedding_report.json").read_text())["text_encoder"]
    embeddings = load_file(tmp_path / "concept_embeddings.safetensors")
    for name in ("rick", "morty"):
        norm = float(embeddings[f"text_encoder.{name}"].norm(dim=1).mean())
        assert report["norm"]["after"][name] == pytest.approx(norm, abs=1e-4)
        assert (norm > report["vocabulary_norm"]["limit"]) == (name in outside)
    assert report["norm"]["before"]["rick"] == report["norm"]["before"]["morty"]
    assert report["vocabulary_norm"]["mean"] < report["vocabulary_norm"]["p95"]
    assert report["outside_vocabulary"] == outside
    warnings = [r.message for r in caplog.records if "left the vocabulary" in r.message]
    assert len(warnings) == (1 if outside else 0)
    for warning in warnings:
        assert "rick, morty" in warning
        assert "lower contrastive.learning_rate or raise contrastive.norm_loss_weight" in warning


def test_with_a_basis_embeddings_stay_within_the_span_of_its_words(tmp_path, backbones, train):
    spec = backbones("sd15")
    words = ["man", "dog", "cat", "woman", "photo"]
    clip, tokenizer, _ = load_contrastive(spec)
    ids = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
    assert all(len(one) == 1 for one in ids)
    table = clip.text_model.get_input_embeddings().weight.detach()
    words_WD = table[torch.tensor([one[0] for one in ids])]
    trained = []
    for steps in (1, 12):
        train(
            tmp_path / str(steps),
            spec=spec,
            basis={"words": words, "rank": 3},
            steps=steps,
            learning_rate=0.3,
            warmup_steps=0,
        )
        file = tmp_path / str(steps) / "concept_embeddings.safetensors"
        found = load_concept_embeddings(file)["text_encoder"]
        trained.append(torch.cat([found["rick"], found["morty"]]))
    mean = words_WD.mean(0)
    _, lengths, directions = torch.linalg.svd(words_WD - mean, full_matrices=False)
    for embeddings in trained:
        offsets = embeddings - mean
        within = offsets @ directions[:3].T @ directions[:3]
        assert torch.allclose(offsets, within, atol=1e-5)
        assert offsets.norm() > 0
    # One step of Adam moves every coordinate by the learning rate, in standard deviations.
    coordinates = (trained[0] - mean) @ directions[:3].T / (lengths[:3] / len(words) ** 0.5)
    assert torch.allclose(coordinates.abs(), torch.full_like(coordinates, 0.3), atol=0.02)
    report = json.loads((tmp_path / "12" / "embedding_report.json").read_text())["text_encoder"]
    assert report["text_distance"]["before"]["rick"]["morty"] == 0, "both start at the mean"
    assert report["loss"] < report["loss_frozen_rows"]


def test_a_basis_needs_words_of_one_token(tmp_path, backbones, train):
    spec = backbones("sd15")
    with pytest.raises(ValueError, match="of 2 words 0 are"):
        train(tmp_path, spec=spec, basis={"words": ["qqqqzz", "xyxyx"], "rank": 3})
