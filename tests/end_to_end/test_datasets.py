"""Other concepts than the default four: fresh casts, real photographs, a user's own folder."""

from __future__ import annotations

import json


def test_photographs_pass_the_whole_pipeline(clif_exp, shared_store):
    # two of the four, as the README's command in test_readme.py: they share their artifacts
    few = "dataset.size=2"
    result = clif_exp("debug=fast", "dataset=photos", few, "segmenter=felzenszwalb")
    assert result.code == 0, result.errors
    fingerprint = result.summary()["stages"]["augment_M"]["fingerprint"]
    # ToonWorld's CLIP knows no photograph: better no names than wrong ones, and no images that
    # rest on them.
    assert "parts stay unnamed and R-Aug is left out" in result.output
    segments = (
        shared_store
        / "segments"
        / result.summary()["stages"]["segments"]["fingerprint"]
        / "segments.jsonl"
    ).read_text()
    parts = [line for line in map(json.loads, segments.splitlines()) if line["kind"] == "part"]
    assert len(parts) > 20
    assert not any(line["part"] for line in parts)
    assert "augment_R" not in result.summary()["stages"]
    lines = (shared_store / "augment_M" / fingerprint / "manifest.jsonl").read_text().splitlines()
    assert lines
    assert all(len(json.loads(line)["sources"]) == 2 for line in lines)
    for page in ("report.html", "curation.html"):
        text = (result.folders[-1] / page).read_text()
        assert "knows images of toonworld only, these show photographs" in text, page
    report = (result.folders[-1] / "report.html").read_text()
    assert "Concept set <b>photos</b>" in report
    assert "too few to judge images and metrics by" in report
    assert "Identity, attendance and leakage are not measured for these concepts" in report
    assert str(result.folders[-1].parent) not in report.partition("<footer>")[2]


def test_a_users_folder_gives_the_same_as_the_dataset_it_was_copied_from(
    clif_exp, finished, tmp_path
):
    from clif_exp.toonworld.cast import write_cast

    mine = tmp_path / "my_concepts"
    write_cast(mine, size=2)
    own = clif_exp(
        "debug=fast", "dataset=folder", f"dataset.root={mine}", "dataset.domain=toonworld"
    )
    assert own.code == 0, own.errors
    for name in ("segments", "augment_M", "diffusion", "generation"):
        assert own.summary()["stages"][name] == finished.summary()["stages"][name] | {
            "reused": True
        }, name
