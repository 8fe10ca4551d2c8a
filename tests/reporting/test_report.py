"""The report of a run made of drawings."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from clif_exp.evaluation.metrics import METRICS, guide
from clif_exp.reporting import plots
from clif_exp.reporting.sections import duration, facts
from clif_exp.reporting.stage import sample_rows, write_report
from clif_exp.runs.directory import RunDirectory


def test_the_page_needs_nothing_beside_it(page):
    _, text = page
    sources = re.findall(r"(?:src|href)=\"([^\"]*)\"", text)
    assert sources
    links = {source for source in sources if not source.startswith(("data:image/", "#"))}
    assert links == {"export/"}, "nothing else is beside the page in this run"
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert "url(" not in text


def test_the_page_shows_every_section_and_every_metric(page):
    _, text = page
    for heading in (
        "Each concept alone",
        "Concepts in pairs",
        "Drawn plainly, as other tools do",
        "Metrics",
        "Which concept was taken for which",
        "Where the models look",
        "before and after",
        "Training",
        "Concept tokens, before and after stage 1",
        "Augmented",
    ):
        assert heading in text, heading
    assert "step 0 is the base model" in text, "the samples of stage 2"
    for metric in METRICS:
        if metric.name != "image_alignment_dino":  # not measured in this run
            assert f">{metric.title}<" in text
            assert metric.meaning.replace("'", "&#39;") in text
    assert text.count('class="tile good"')
    assert text.count('class="tile bad"')
    for anchor in re.findall(r'href="#(\w+)"', text):
        assert f'id="{anchor}"' in text


@pytest.mark.parametrize(
    ("group", "labels", "heading"),
    [
        ("plain", ["this run", "plain"], "Drawn plainly, as other tools do"),
        ("regional", ["plain", "by region"], "Each concept in its own part of the image"),
    ],
)
def test_prompts_drawn_again_stand_below_the_runs_own_images(run, tmp_path, group, labels, heading):
    summary, artifacts = run
    redrawn = ("generation_plain", "generation_regional")
    without = {name: path for name, path in artifacts.items() if name not in redrawn}
    assert not sample_rows(without)["redrawn"]
    name = f"generation_{group}"
    artifacts = without | {name: artifacts[name]}
    rows = sample_rows(artifacts)["redrawn"]
    assert [label for label, _ in rows] == labels
    drawn, again = (tiles for _, tiles in rows)
    assert [tile.caption for tile in drawn] == [tile.caption for tile in again]
    assert len(again) == 3 and all(tile.good is not None for tile in again)
    for tiles, artifact in ((drawn, "generation"), (again, name)):
        assert {tile.file.parent.parent for tile in tiles} == {artifacts[artifact]}
    write_report(tmp_path, summary=summary, artifacts=artifacts, guide=guide(), config_yaml="")
    assert re.findall(
        r"<h3>([^<]*(?:plainly|its own part)[^<]*)", (tmp_path / "report.html").read_text()
    ) == [heading]


def test_the_page_shows_where_each_model_looks_in_one_line_per_prompt(page):
    folder, text = page
    section = text[text.index('id="attention"') :].partition("</section>")[0]
    lines = section.split('<div class="rows across"')[1:]
    assert [line.count('<div class="row">') for line in lines] == [3, 3], "three models each"
    assert [line.count("<img") for line in lines] == [3 * 2, 3 * 3], "an image and its maps"
    assert "overlap 0.50" in lines[1]
    assert "overlap" not in lines[0]
    assert (folder / "samples" / "attention.png").is_file(), "which trackers get"


def test_the_page_says_how_confusion_goes_with_distance_and_of_whom(run, tmp_path):
    summary, artifacts = run
    general = tmp_path / "general"
    general.mkdir()
    pairs = {
        f"cat|{name}": {"confusion": 1 - far, "leaked": 0.0, "contextual": far}
        for name, far in (("lynx", 0.1), ("dog", 0.5), ("robot", 0.9))
    }
    ranks = {"contextual": {"confusion": {"rho": -1.0, "p": 0.0}, "leaked": None}}
    found = {"pairs": pairs, "spearman": ranks}
    (general / "distance_confusion.json").write_text(json.dumps(found))
    judged = {"evaluation": artifacts["evaluation"]}
    for more in ({}, {"general_pairs": general}):
        write_report(
            tmp_path, summary=summary, artifacts=judged | more, guide=guide(), config_yaml=""
        )
        text = (tmp_path / "report.html").read_text()
        assert "one of 4 pairs" in text, "the customised ones"
        shown = (
            "one of 3 pairs" in text
            and "images confused with the distance of contextual tokens -1.00 (p 0.000)" in text
        )
        assert shown == bool(more)


def test_what_users_write_is_escaped(page):
    _, text = page
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<milo>" not in text
    assert "a photo of &lt;milo&gt;" in text


def test_the_head_names_the_set_and_warnings_stand_above_everything(run, tmp_path):
    write_report(
        tmp_path,
        summary=run[0] | {"export": "/home/somebody/runs/1/export"},
        artifacts={},
        guide=guide(),
        config_yaml="",
        set_name="my <set>",
        class_words={f"c{number}": "fox" for number in range(10)},
        warnings=["The base model knows no <photographs>."],
        left_out=["captions: 2 left out", "<otto>, its parts: none found"],
    )
    text = (tmp_path / "report.html").read_text()
    head, _, rest = text.partition("</header>")
    assert "Concept set <b>my &lt;set&gt;</b>: &lt;c0&gt; fox" in head
    assert "and 2 more" in head
    first = rest.index('role="alert">The base model knows no &lt;photographs&gt;.')
    assert first < rest.index('class="headline"')
    section = rest[rest.index('id="left-out"') :].partition("</section>")[0]
    assert "<li>captions: 2 left out</li><li>&lt;otto&gt;, its parts: none found</li>" in section
    assert "/home/" not in text


def test_the_page_links_to_curations_page_if_the_run_wrote_one(run, tmp_path):
    write_report(tmp_path, summary=run[0], artifacts={}, guide=guide(), config_yaml="")
    assert "curation.html" not in (tmp_path / "report.html").read_text()
    (tmp_path / "curation.html").write_text("its page")
    write_report(tmp_path, summary=run[0], artifacts={}, guide=guide(), config_yaml="")
    assert 'href="curation.html"' in (tmp_path / "report.html").read_text()


def test_the_legend_of_right_and_wrong_stands_only_where_images_are_judged(page, run, tmp_path):
    assert "everything right" in page[1]
    summary, artifacts = run
    unjudged = {"generation": artifacts["generation"]}
    write_report(tmp_path, summary=summary, artifacts=unjudged, guide=guide(), config_yaml="")
    text = (tmp_path / "report.html").read_text()
    assert "Concepts in pairs" in text
    assert "everything right" not in text


def test_every_value_says_what_it_is_where_the_heads_of_tables_are_hidden(page):
    tables = re.findall(r'<table class="stack">.*?</table>', page[1], flags=re.DOTALL)
    assert len(tables) == page[1].count("<table") >= 5
    for table in tables:
        cells = re.findall(r"<td([^>]*)>", table)
        assert cells
        unnamed = {cell for cell in cells if "data-label" not in cell and "name" not in cell}
        # Nothing, or "likely to be confused".
        assert unnamed <= {' class="none"', ' class="wide"'}


def test_short_rows_of_images_share_a_line(run, page, tmp_path):
    summary, artifacts = run
    assert 'class="rows halves"' not in page[1].partition('id="samples"')[2].partition("<h2>")[0]
    generations = (artifacts["generation"] / "generations.jsonl").read_text().splitlines()
    few = tmp_path / "generation"
    few.mkdir()
    (few / "images").symlink_to(artifacts["generation"] / "images")
    first: dict[str, str] = {}
    for line in generations:
        if '"single"' in line:
            first.setdefault(re.search(r'"concepts": \["(\w+)"', line)[1], line)
    (few / "generations.jsonl").write_text("\n".join(first.values()) + "\n")
    write_report(
        tmp_path,
        summary=summary,
        artifacts=artifacts | {"generation": few},
        guide=guide(),
        config_yaml="",
    )
    section = (tmp_path / "report.html").read_text().partition('id="samples"')[2]
    assert 'class="rows halves" style="--n:3"' in section.partition("</section>")[0]


def test_the_grids_are_images(page):
    folder, _ = page
    for name in ("concepts", "pairs", "redrawn", "prior", "augmented", "training"):
        pixels = np.asarray(Image.open(folder / "samples" / f"{name}.png"))
        assert pixels.shape[0] > 300
        assert pixels.shape[1] > 500
        assert pixels.std() > 20


def test_the_same_run_gives_the_same_bytes(page, run, tmp_path):
    summary, artifacts = run
    write_report(
        tmp_path,
        summary=summary,
        artifacts=artifacts,
        guide=guide(),
        config_yaml="secret_free: true\nname: <script>alert(1)</script>\n",
    )
    assert (tmp_path / "report.html").read_text() == page[1]


def test_a_run_that_made_nothing_still_has_a_page(tmp_path):
    write_report(
        tmp_path,
        summary={"experiment": "clif", "status": "failed", "error": "no <space> left"},
        artifacts={},
        guide=guide(),
        config_yaml="",
    )
    text = (tmp_path / "report.html").read_text()
    assert "no &lt;space&gt; left" in text
    assert "Metrics" not in text
    assert not (tmp_path / "samples").exists()


def test_an_ablated_kind_is_left_out(run, tmp_path):
    summary, artifacts = run
    write_report(
        tmp_path,
        summary=summary,
        artifacts={name: artifacts[name] for name in ("augment_G", "augment_M")},
        guide=guide(),
        config_yaml="",
    )
    text = (tmp_path / "report.html").read_text()
    assert "M: two concepts" in text
    assert "R: its parts" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (3.21, "3.2 s"), (59.6, "60 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_a_stage_of_several_artifacts_counts_once(tmp_path):
    run = RunDirectory(
        tmp_path / "run",
        experiment="e",
        method="clif",
        model="toonworld",
        dataset="toonworld",
        seed=0,
        provenance={},
    )
    for name, reused in (("segments", True), ("contexts", False), ("diffusion", False)):
        run.summary["stages"][name] = {
            "fingerprint": name,
            "reused": reused,
            "seconds": 20.0,
            "peak_memory_mb": 1.0,
        }
    run.add_stage_of("curation", ["segments", "contexts"])
    told = facts(run.summary)
    assert (told["computed in"], told["stages reused"]) == ("40 s", "1 of 3")


def test_curves_skip_empty_cells(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,loss,loss_frozen_rows,lr\n0,2.0,3.0,0.1\n1,1.5,,0.1\n")
    assert plots.read_curves(file) == {
        "loss": ([0.0, 1.0], [2.0, 1.5]),
        "loss_frozen_rows": ([0.0], [3.0]),
    }
    file.write_text("step,loss\n")
    assert plots.read_curves(file) == {}
