"""Images that a person labels without knowing who drew them, against the oracle's verdicts."""

from __future__ import annotations

import csv
import json

import pytest

from clif_exp.artifacts.files import file_digest
from clif_exp.studies import agreement, people
from judged_runs import a_run


@pytest.fixture
def drawn(tmp_path):
    """Two methods' runs and four of their images, drawn for labelling."""
    a_run(tmp_path / "runs", "clif", seed=0, intact=2)
    a_run(tmp_path / "runs", "mix_only", seed=0, intact=0)
    out = tmp_path / "people"
    saved = tmp_path / "runs.json"
    saved.write_text("{}")
    assert people.main(["draw", str(saved), "--out", str(out)]) == 2
    assert people.main(["draw", str(tmp_path / "runs"), "--out", str(out), "--count", "4"]) == 0
    return tmp_path / "runs", out


def label(out, answer):
    """Fill labels.csv: `answer(id, concept, question)`."""
    with (out / people.LABELS).open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    for row in rows:
        row |= {q: answer(row["id"], row["concept"], q) for q in people.QUESTIONS}
    with (out / people.LABELS).open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def method_of(runs, out):
    """Return the id of each drawn image -> the method that drew it."""
    files = {
        file_digest(file).hex(): file.parents[1].name
        for file in runs.rglob("generation/*/images/*")
    }
    methods = {f"{name}0-200".encode().hex().ljust(64, "0"): name for name in ("clif", "mix_only")}
    entries = json.loads((out / people.IMAGES).read_text())["images"]
    return {entry["id"]: methods[files[entry["image"]]] for entry in entries}


def test_methods_have_equal_shares_and_whoever_labels_is_not_told(drawn):
    runs, out = drawn
    assert sorted(method_of(runs, out).values()) == ["clif", "clif", "mix_only", "mix_only"]
    assert "clif" not in (out / people.IMAGES).read_text()
    assert "clif" not in (out / people.LABELS).read_text()
    assert list((out / people.SHEETS).glob("*.png"))


def test_labels_are_kept_when_images_are_drawn_again(drawn):
    runs, out = drawn
    label(out, lambda *_: "1")
    before = (out / people.LABELS).read_bytes()
    assert people.main(["draw", str(runs), "--out", str(out), "--count", "4"]) == 0
    assert (out / people.LABELS).read_bytes() == before


def test_labels_of_other_images_are_not_mixed_up(drawn, capsys):
    runs, out = drawn
    label(out, lambda *_: "1")
    before = (out / people.IMAGES).read_bytes()
    assert people.main(["draw", str(runs), "--out", str(out), "--count", "2"]) == 2
    assert (
        "labels.csv holds labels of other images; choose another --out" in capsys.readouterr().err
    )
    assert (out / people.IMAGES).read_bytes() == before


def test_an_unanswered_question_is_named(drawn, capsys):
    runs, out = drawn
    assert people.main(["compare", str(runs), "--labels", str(out)]) == 2
    assert "labels.csv: line 2: present: found ''" in capsys.readouterr().err


def test_a_line_that_is_gone_is_named(drawn, capsys):
    runs, out = drawn
    label(out, lambda *_: "1")
    lines = (out / people.LABELS).read_text().splitlines(keepends=True)
    (out / people.LABELS).write_text("".join(lines[:-1]))
    assert people.main(["compare", str(runs), "--labels", str(out)]) == 2
    assert "labels.csv: has no line of image 004" in capsys.readouterr().err


def test_too_few_images_are_refused(drawn, capsys):
    runs, out = drawn
    assert people.main(["draw", str(runs), "--out", str(out), "--count", "99"]) == 2
    assert "clif has only 8 images" in capsys.readouterr().err


def test_agreement_is_counted_against_the_verdicts(drawn):
    runs, out = drawn
    method = method_of(runs, out)
    # The person sees what the oracle says, but for one method's leaks, of which it sees none.
    label(
        out,
        lambda key, _, question: str(
            int(question == "present" or (question == "intact" and method[key] == "clif"))
        ),
    )
    assert people.main(["compare", str(runs), "--labels", str(out)]) == 0
    written = json.loads((out / "agreement.json").read_text())
    found = written["questions"]
    assert (found["present"]["agree"], found["present"]["kappa"]) == (1, None)
    assert (found["intact"]["agree"], found["intact"]["kappa"]) == (1, 1)
    # Of eight concepts the oracle saw two leak: the second one of each of mix_only's two images.
    assert found["leaked"]["reader"] == pytest.approx(2 / 8)
    assert found["leaked"]["agree"] == pytest.approx(6 / 8)
    assert found["leaked"]["kappa"] == pytest.approx(0)
    leaks = {method: of["leaked"] for method, of in written["methods"].items()}
    assert leaks["mix_only"] == {"answers": 4, "rater": 0, "reader": 0.5}
    assert leaks["clif"] == {"answers": 4, "rater": 0, "reader": 0}
    said = (out / "agreement.md").read_text()
    assert "| mix_only | 4 | 1.00 | 1.00 | 0.00 | 0.00 | 0.00 | 0.50 |" in said
    assert (out / "disagreements.png").is_file()
    assert "| leaked" in (out / "agreement.md").read_text()


def test_kappa_is_that_of_a_worked_example():
    # 20 yes-yes, 15 no-no, 5 yes-no, 10 no-yes: agreement 0.7, chance 0.5 * 0.6 + 0.5 * 0.4.
    pairs = [(1, 1)] * 20 + [(0, 0)] * 15 + [(1, 0)] * 5 + [(0, 1)] * 10
    assert agreement.cohens_kappa(pairs) == pytest.approx((0.7 - 0.5) / 0.5)
