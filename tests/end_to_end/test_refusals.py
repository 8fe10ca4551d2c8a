"""Bad input on the command line: one line, an exit code, nothing computed or half-written."""

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


def test_an_unknown_key_leaves_nothing_behind(clif_exp, tmp_path):
    result = clif_exp("debug=fast", "diffusion.rnk=3")
    assert result.code == 2
    assert list(tmp_path.iterdir()) == []
    assert result.errors.strip().startswith("clif_exp: error: diffusion.rnk: no such key")
    assert result.errors.count("\n") == 1


def test_a_wrong_value_is_refused_with_a_summary(clif_exp):
    result = clif_exp("debug=fast", "diffusion.rank=-1")
    assert result.code == 2
    assert result.summary()["status"] == "refused"
    assert "diffusion.rank: found -1" in result.errors
    assert "Traceback" not in result.errors
    assert result.summary()["error"] in result.errors


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


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["dataset=folder"], ["dataset.root"]),
        (["dataset=folder", "dataset.root=nowhere"], ["nowhere"]),
        (["model.path=nowhere"], ["model.path", "nowhere"]),
        (
            ["contrastive.basis=null", "generation.prompts.world=generic", "model.family=sd15"],
            ["evaluation.reader.kind"],
        ),
        (["trainer.devices=3"], ["trainer.strategy"]),
    ],
    ids=lambda value: value[-1] if "=" in value[0] else "",
)
def test_refusals_name_the_field(clif_exp, overrides, parts):
    result = clif_exp("debug=fast", *overrides)
    assert result.code == 2, result.output + result.errors
    assert all(part in result.errors for part in parts) and "Traceback" not in result.errors, (
        result.errors
    )


def test_the_traceback_is_there_when_asked_for(clif_exp):
    result = clif_exp("debug=fast", "diffusion.rank=-1", HYDRA_FULL_ERROR="1")
    assert result.code != 0
    assert "Traceback" in result.errors
