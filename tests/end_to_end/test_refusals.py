"""Bad input: one line, an exit code, nothing computed or half-written."""

from __future__ import annotations

import pytest
from PIL import Image


@pytest.fixture
def broken_set(tmp_path):
    root = tmp_path / "my_concepts"
    (root / "images").mkdir(parents=True)
    Image.new("RGB", (128, 128), "red").save(root / "images" / "a.png")
    whole = (root / "images" / "a.png").read_bytes()
    (root / "images" / "b.png").write_bytes(whole[: len(whole) // 2])
    text = (
        "name: mine\nconcepts:\n  - {name: rick, class_word: man, images: [images/a.png,"
        " images/b.png]}\n"
    )
    (root / "concepts.yaml").write_text(text)
    return root


def test_a_truncated_image_is_refused_before_anything_runs(clif_exp, broken_set, tmp_path):
    result = clif_exp(
        "debug=fast",
        "dataset=folder",
        f"dataset.root={broken_set}",
        store=tmp_path / "store",
    )
    assert result.code == 2
    assert result.summary()["status"] == "refused"
    assert "b.png" in result.errors
    assert "rick" in result.errors
    assert "Traceback" not in result.errors
    assert not (tmp_path / "store").exists()
