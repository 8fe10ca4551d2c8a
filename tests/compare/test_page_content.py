"""What `comparison.html` holds: thinned curves, short names, images below a limit."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
from PIL import Image

from clif_exp.compare import thumbnails
from clif_exp.compare.content import describe_runs, shorten_name, thin_curve
from clif_exp.compare.page import script_json
from clif_exp.compare.run import RunImage
from clif_exp.compare.thumbnails import make_thumbnails
from support import write_image
from synthetic_runs import sweep


def test_a_long_curve_is_told_by_means_and_a_short_one_as_it_is():
    steps, values = thin_curve([(step, float(step % 2)) for step in range(1000)], most=100)
    assert len(steps) == len(values) == 100
    assert values == [0.5] * 100 and steps == sorted(steps) and 0 <= steps[0] < steps[-1] < 1000
    assert thin_curve([(3, 0.123456789), (5, 2.0)], most=100) == [[3, 5], [0.12346, 2.0]]


def test_what_is_not_finite_is_a_gap_only_where_nothing_else_was_measured():
    points = [(0, 1.0), (1, math.nan), (2, math.inf), (3, math.nan)]
    assert thin_curve(points, most=2) == [[0, 2], [1.0, None]]


def test_names_say_settings_by_their_last_parts_and_leave_out_what_all_share():
    labels = {"diffusion.rank": "rank", "contrastive.steps": "contrastive.steps"}
    name = "+experiment=clif,diffusion.rank=16,trainer.devices=1,tags=[a,b],seed=0"
    short = shorten_name(name, labels, constant={"trainer.devices"})
    assert short == "+experiment=clif, rank=16, tags=[a,b], seed=0"
    assert shorten_name("trainer.devices=1", labels, constant={"trainer.devices"})
    assert shorten_name("runs/2026-11-27", labels, constant=()) == "runs/2026-11-27"


def test_settings_are_sorted_by_size_and_told_apart_by_as_many_parts_as_it_takes():
    runs = sweep(2)
    settings = [
        {"diffusion.steps": 1000, "contrastive.steps": 20},
        {"diffusion.steps": 200, "contrastive.steps": 30},
    ]
    runs = [replace(run, settings=found) for run, found in zip(runs, settings)]
    content = describe_runs(runs, title="t")
    first = content["settings"][0]
    assert [setting["label"] for setting in content["settings"]] == [
        "diffusion.steps",
        "contrastive.steps",
    ]
    assert [value["text"] for value in first["values"]] == ["200", "1000"]
    assert [run["settings"][0] for run in content["runs"]] == [1, 0]


def test_settings_that_runs_are_called_by_are_shown_first_and_else_those_that_tell_most():
    groups = [
        {"method.name": name, "method.merge": name == "a", "artifacts.root": f"/data/{name}"}
        for name in "ab"
    ]
    for names, shown in (
        (["method=a", "method=b"], {"method.name"}),
        (["runs/1", "runs/2"], {"method.name", "method.merge", "artifacts.root"}),
    ):
        runs = [replace(r, name=n, settings=g) for r, n, g in zip(sweep(2), names, groups)]
        settings = describe_runs(runs, title="t")["settings"]
        assert {setting["key"] for setting in settings if setting["shown"]} == shown
        assert [setting["label"] for setting in settings] == ["method", "merge", "root"]
        assert [setting["over"] for setting in settings] == ["", "method", "artifacts"]


def test_metrics_stand_in_the_tables_order_with_directions():
    content = describe_runs(sweep(2), title="t")
    keys = [metric["key"] for metric in content["metrics"]]
    assert keys[:2] == ["single/identity", "single/attendance"]
    assert keys[-1] == "multi/pairs_seen/identity", "breakdowns last"
    assert not any("pictures" in key for key in keys)
    better = {metric["key"]: metric["better"] for metric in content["metrics"]}
    assert better["multi/leakage"] == "lower" and better["told_apart"] is None


def test_json_cannot_end_its_element():
    text = script_json({"name": "</script><!--", "other": "a\u2028b & c"})
    assert "<" not in text and "\u2028" not in text
    assert json.loads(text) == {"name": "</script><!--", "other": "a\u2028b & c"}


def noise(folder, *, count, side):
    return [
        RunImage(write_image(folder / f"{n}.png", size=(side, side)), f"prompt {n}", 0, "multi")
        for n in range(count)
    ]


def test_thumbnails_stay_below_the_budget_and_say_that_they_were_reduced(tmp_path):
    runs = sweep(2, images=noise(tmp_path, count=6, side=300))
    whole = make_thumbnails(runs)
    assert whole.side == 300 and not whole.notes
    assert len(whole.files) == 6, "an image of both runs is held once"
    assert whole.cells == [list(range(6))] * 2
    budget = 60_000
    small = make_thumbnails(runs, budget=budget)
    assert sum(len(data) * 4 / 3 for data in small.files) <= budget
    assert 64 <= small.side < 300 and f"reduced to {small.side} px" in small.notes[0]
    with Image.open(io.BytesIO(small.files[0])) as image:
        assert image.size == (small.side, small.side)


def test_too_little_room_leaves_images_out_and_says_so(tmp_path):
    runs = sweep(1, images=noise(tmp_path, count=6, side=96))
    found = make_thumbnails(runs, budget=8_000)
    assert 0 < len(found.files) < 6
    assert sum(len(data) * 4 / 3 for data in found.files) <= 8_000
    assert any("left out" in note for note in found.notes)


def test_more_images_than_a_page_holds_are_thinned_in_every_part(tmp_path, monkeypatch):
    images = noise(tmp_path, count=12, side=16)
    images = [replace(i, part="single" if n < 4 else "multi") for n, i in enumerate(images)]
    monkeypatch.setattr(thumbnails, "MOST_IMAGES", 6)
    found = make_thumbnails(sweep(1, images=images))
    assert len(found.files) == 6
    assert [part for _, _, part in found.rows] == ["single"] * 2 + ["multi"] * 4
    assert "6 of 12 prompts and seeds" in found.notes[0]


def test_a_broken_image_is_left_out_and_counted(tmp_path):
    images = noise(tmp_path, count=3, side=32)
    images[1].file.write_bytes(images[1].file.read_bytes()[:60])
    images[2].file.unlink()
    found = make_thumbnails(sweep(1, images=images))
    assert found.cells == [[0, None, None]]
    assert found.notes == ["2 images are left out: their files cannot be read."]


@pytest.mark.parametrize("count", [0, 3])
def test_facts_of_status_are_counted(count):
    content = describe_runs(sweep(6, failed=range(count)), title="t")
    counts = {status["name"]: status["count"] for status in content["statuses"]}
    assert counts == ({"finished": 3, "failed": 3} if count else {"finished": 6})
