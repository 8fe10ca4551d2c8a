"""What the report says of stage 1 and of what the untouched base model draws."""

from __future__ import annotations

import json
import re

import pytest

import demo_run
from clif_exp.evaluation.metrics import guide
from clif_exp.reporting.stage import write_report
from clif_exp.reporting.tokens import token_tables


def test_the_page_says_what_stage_1_did_to_the_tokens(page):
    _, text = page
    assert "90% after; guessing finds 25%" in text
    assert "with the initial concept embeddings 2.500" in text
    cells = re.findall(
        r"<td class=\"name\">(\w+ \+ \w+)</td>\s*<td class=\"num\" data-label=\"distance"
        r" before\">0.000</td><td class=\"num\" data-label=\"distance after\">(0\.\d+)</td>",
        text,
    )
    assert len(cells) == 6, "every pair of four concepts, all of which began on top of each other"
    assert [float(distance) for _, distance in cells] == sorted(
        float(distance) for _, distance in cells
    )


def test_the_page_says_what_the_base_model_draws_by_class_word_and_by_stage_1(page, run):
    folder, text = page
    metrics = run[0]["metrics"]
    assert "What the untouched base model draws" in text
    for name in ("identity", "attendance", "attribute_binding", "image_alignment"):
        word, learnt = (f"{metrics[f'{group}/{name}']:.3f}" for group in ("class_word", "stage1"))
        shown = f'"class word">{word}</td><td class="num" data-label="stage 1">{learnt}</td></tr>'
        assert shown in text, name
    assert "Norms of the vocabulary&#39;s embeddings: mean" in text
    assert (folder / "samples" / "stage_1.png").is_file()
    assert 'class="warning"' not in text
    assert 'class="pill outside"' not in text


@pytest.mark.parametrize("name", ["identity", "image_alignment"])
def test_embeddings_that_the_base_model_cannot_read_are_warned_about(name, run, tmp_path):
    summary, _ = run
    (tmp_path / "contrastive").mkdir()
    demo_run.publish_tokens(tmp_path / "contrastive", moved=20.0)
    metrics = summary["metrics"] | {f"class_word/{name}": 0.28, f"stage1/{name}": 0.24}
    if name == "image_alignment":  # no reader found any figures
        metrics |= {"class_word/identity": None, "stage1/identity": None}
    write_report(
        tmp_path,
        summary=summary | {"metrics": metrics},
        artifacts={"contrastive": tmp_path / "contrastive"},
        guide=guide(),
        config_yaml="",
    )
    text = (tmp_path / "report.html").read_text()
    assert text.count('class="warning"') == 2
    assert "the embeddings of milo, otto, luna, bolt have left the vocabulary" in text
    assert "Lower contrastive.learning_rate or raise contrastive.norm_loss_weight" in text
    assert text.count('class="pill outside"') == 4
    assert f"{name.replace('_', ' ')} 0.240 instead of 0.280" in text


def test_a_method_without_stage_1_has_no_table_of_it(run, tmp_path):
    summary, artifacts = run
    of_stage_1 = ("contrastive", "generation_class_word", "generation_stage1")
    known = {
        metric: value
        for metric, value in summary["metrics"].items()
        if not metric.startswith(("class_word/", "stage1/"))
    }
    write_report(
        tmp_path,
        summary=summary | {"metrics": known},
        artifacts={name: path for name, path in artifacts.items() if name not in of_stage_1},
        guide=guide(),
        config_yaml="",
    )
    text = (tmp_path / "report.html").read_text()
    assert "untouched base model draws" not in text
    assert not (tmp_path / "samples" / "stage_1.png").exists()


def test_the_loss_of_a_short_stage_1_is_not_compared_with_its_own_first_step(tmp_path):
    folder = tmp_path / "contrastive"
    folder.mkdir()
    demo_run.publish_tokens(folder)
    reports = json.loads((folder / "embedding_report.json").read_text())
    for report in reports.values():
        del report["loss_frozen_rows"]
    (folder / "embedding_report.json").write_text(json.dumps(reports))
    notes = token_tables(folder)[0]["notes"]
    assert "Loss of the last step 1.200." in notes
    assert not any("what the embeddings learnt" in note for note in notes)
