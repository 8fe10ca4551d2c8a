"""Models of the Hugging Face hub, as its client's cache holds them: pinned, loaded, refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import CLIPModel

from clif_exp.base_models.hub import is_hub_file, is_local, located, split_revision
from clif_exp.base_models.loading import load_contrastive
from clif_exp.base_models.spec import BaseModels, identity, resolve
from clif_exp.evaluation.alignment import check_independent
from clif_exp.runs.preparation import find_segmenter, pin_models
from support import default_config

FIRST, SECOND = "1" * 40, "2" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub, as downloads leave it: `hub(name, folder, commit)` adds a main branch."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))

    def add(name: str, folder: Path, *, commit: str = FIRST) -> str:
        repository = cache / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        return name

    return add


@pytest.fixture
def at_hub(hub, backbones):
    """A tiny SD 1.5 and its CLIP, both on the hub, and the CLIP's folder."""
    spec = backbones("sd15")
    clip = Path(spec.contrastive["text_encoder"])
    named = BaseModels(
        family="sd15",
        path=hub("me/sd15", Path(str(spec.path))),
        contrastive={"text_encoder": hub("me/clip", clip)},
        resolution=spec.resolution,
    )
    return named, clip


def test_names_of_the_hub_are_told_from_folders(tmp_path):
    (tmp_path / "a@b").mkdir()
    assert split_revision("me/clip@v1") == ("me/clip", "v1")
    assert split_revision("me/sam/files/b.pth@refs/pr/1") == ("me/sam/files/b.pth", "refs/pr/1")
    assert split_revision(tmp_path / "a@b") == (str(tmp_path / "a@b"), None)
    assert located("me/clip") == ("me/clip", {})
    assert located("me/clip@v1") == ("me/clip", {"revision": "v1"})
    assert not is_local("me/clip@refs/pr/1") and is_local("../me/clip")
    assert is_hub_file("me/sam/b.pth") and not is_hub_file("me/clip@refs/pr/1")


def test_a_contrastive_checkpoint_is_pinned_and_loaded_at_its_commit(at_hub, hub):
    named, clip = at_hub
    spec = resolve(named)
    assert spec.revision == FIRST
    assert spec.contrastive == {"text_encoder": f"me/clip@{FIRST}"}
    before = identity(spec)
    model, *_ = load_contrastive(spec)
    for key, value in CLIPModel.from_pretrained(clip).state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    hub("me/clip", clip, commit=SECOND)
    moved = resolve(named)
    assert moved.contrastive == {"text_encoder": f"me/clip@{SECOND}"}
    assert identity(moved) != before, "what was trained against another commit is another result"
    kept = resolve(replace(named, contrastive={"text_encoder": f"me/clip@{FIRST}"}))
    assert identity(kept) == before


def test_a_checkpoint_of_sam_is_pinned(at_hub, hub, tmp_path):
    named, _ = at_hub
    (tmp_path / "sam" / "files").mkdir(parents=True)
    (tmp_path / "sam" / "files" / "b.pth").write_bytes(b"weights")
    hub("me/sam", tmp_path / "sam")
    file, pinned = "me/sam/files/b.pth", f"me/sam/files/b.pth@{FIRST}"
    spec = resolve(replace(named, segmenter_checkpoint=file))
    assert find_segmenter(default_config("segmenter=sam"), spec).segmenter_checkpoint == pinned
    for other in ("segmenter=felzenszwalb", f"segmenter.settings.checkpoint={tmp_path / 'sam'}"):
        config = default_config("segmenter=sam", other)
        assert find_segmenter(config, spec).segmenter_checkpoint == file, "nothing reads it"
    own = default_config("segmenter=sam", f"segmenter.settings.checkpoint={file}")
    assert pin_models(own).segmenter.own()["checkpoint"] == pinned


def test_a_missing_checkpoint_is_refused_before_anything_runs(at_hub):
    named, _ = at_hub
    gone = replace(named, contrastive={"text_encoder": "me/gone"})
    with pytest.raises(ValueError, match=r"^model\.contrastive\.text_encoder: 'me/gone' is neith"):
        resolve(gone)


def test_judges_are_had_and_pinned_before_anything_is_trained(hub, backbones):
    clip = Path(backbones("sd15").contrastive["text_encoder"])
    real = [
        "model=sd15",
        *(f"evaluation.judge.{name}=me/{name}" for name in ("path", "image_path")),
        *(f"evaluation.reader.{name}=me/{name}" for name in ("detector", "features")),
    ]
    config = default_config(*real, "stages=[generation,evaluation]")
    for field in ("judge.path", "judge.image_path", "reader.detector", "reader.features"):
        with pytest.raises(ValueError, match=rf"^evaluation\.{field}: .* give a local folder"):
            pin_models(config)
        hub(f"me/{field.partition('.')[2]}", clip)
    evaluation = pin_models(config).evaluation
    assert (evaluation.judge.revision, evaluation.judge.image_revision) == (FIRST, FIRST)
    assert evaluation.reader.detector == f"me/detector@{FIRST}"
    assert evaluation.reader.features == f"me/features@{FIRST}"
    assert evaluation.relevant() != config.evaluation.relevant()
    drawn_only = config.model_copy(update={"stages": ["generation"]})
    assert pin_models(drawn_only).evaluation.judge.revision is None


def test_a_captioner_is_pinned_and_other_settings_stay(hub, backbones):
    hub("me/vlm", Path(backbones("sd15").contrastive["text_encoder"]))
    config = default_config("captioner=vlm", "captioner.settings.model=me/vlm")
    own = pin_models(config).captioner.own()
    assert own["revision"] == FIRST
    assert {**own, "revision": None} == config.captioner.own()
    packaged = default_config()
    assert pin_models(packaged) == packaged


def test_a_judge_is_no_checkpoint_of_stage_1_at_whatever_commit():
    with pytest.raises(ValueError, match="would be biased"):
        check_independent("me/clip", {"text_encoder": f"me/clip@{FIRST}"})
