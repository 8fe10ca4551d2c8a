"""Pinned results: whoever changes what stage 1 computes raises its VERSION.

Otherwise artifacts of the old code would be reused. Numbers instead of digests: they differ in the
last digits between CPUs.
"""

from __future__ import annotations

import csv
import json
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny_models
from clif_exp.base_models.spec import BaseModels, resolve
from clif_exp.base_models.tokens import load_concept_embeddings
from clif_exp.contrastive.features import cache_image_features
from clif_exp.contrastive.settings import ContrastiveSettings, ImageFeatureSettings
from clif_exp.contrastive.stage import train_contrastive
from support import settings

TRAINED = {
    5: {
        "loss 1": 3.06915,
        "loss 2": 2.67114,
        "loss 3": 2.71131,
        "loss 4": 2.29189,
        "loss 5": 2.49041,
        "loss 6": 2.38115,
        "lr 1": 0.00667,
        "lr 2": 0.01333,
        "lr 3": 0.02,
        "lr 4": 0.01707,
        "lr 5": 0.01,
        "lr 6": 0.00293,
        "rick": 0.12851,
        "morty": -0.0539,
        "text distance": 0.00807,
        "retrieval": 0.5417,
    }
}
FEATURES = {2: {"lower": -1.21043, "higher": -0.75426}}


@pytest.fixture(scope="module")
def pinned_models(tmp_path_factory) -> BaseModels:
    """A tiny model whose weights depend neither on library versions nor on token ids.

    The latter because training a tokenizer breaks ties at random.
    """
    from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

    root = tmp_path_factory.mktemp("pinned")
    arguments = tiny_models.write_tiny_backbone(root, family="sd15")
    clip = CLIPModel.from_pretrained(root / "clip")
    encoder = CLIPTextModel.from_pretrained(root / "pipeline" / "text_encoder")
    vocabulary = CLIPTokenizer.from_pretrained(root / "clip").get_vocab()
    with torch.no_grad():
        for name, parameter in clip.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(_noise(name, parameter.shape))
        table_VD = clip.text_model.get_input_embeddings().weight
        for token, index in vocabulary.items():
            table_VD[index] = _noise(token, table_VD.shape[1:])
    text = {
        name.removeprefix("text_model."): value
        for name, value in clip.text_model.state_dict().items()
    }
    encoder.load_state_dict(
        {name: text[name.removeprefix("text_model.")] for name in encoder.state_dict()}
    )
    clip.save_pretrained(root / "clip")
    encoder.save_pretrained(root / "pipeline" / "text_encoder")
    return resolve(BaseModels(**arguments))


def _noise(name: str, shape: torch.Size) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return 0.3 * torch.randn(shape, generator=generator)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def compare(found: dict[str, float], pinned: dict[str, float], *, of: type) -> None:
    assert found == pytest.approx(pinned, rel=1e-3, abs=1e-4), (
        f"results have changed: raise {of.__name__}.VERSION and pin"
        f" { {name: round(value, 5) for name, value in found.items()} } for it"
    )


@pytest.mark.usefixtures("one_thread")
def test_what_stage_1_computes_changes_only_with_the_version(tmp_path, pinned_models, curated):
    train_contrastive(
        tmp_path,
        spec=pinned_models,
        concepts=curated["concepts"],
        manifests={kind: curated["manifests"][kind] for kind in "GR"},
        trainer=settings("trainer", precision="32-true"),
        features=None,
        seed=3,
        settings=settings(
            "contrastive",
            num_tokens=2,
            basis=None,
            steps=6,
            batch_size=9,
            warmup_steps=2,
            learning_rate=0.02,
            gradient_clip=1.0,
            pooling={"G": "eos", "R": "concept"},
            logit_scale="learned",
            norm_loss_weight=0.1,
        ),
    )
    embeddings = load_concept_embeddings(tmp_path / "concept_embeddings.safetensors")
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    report = json.loads((tmp_path / "embedding_report.json").read_text())["text_encoder"]
    found = {f"loss {row['step']}": float(row["loss"]) for row in rows}
    found |= {f"lr {row['step']}": float(row["lr"]) for row in rows}
    for name, embeddings_TD in embeddings["text_encoder"].items():
        weights_TD = _noise("weights", embeddings_TD.shape)
        found[name] = float((weights_TD * embeddings_TD).sum())
    found["text distance"] = report["text_distance"]["after"]["rick"]["morty"]
    found["retrieval"] = report["mistaken"]["after"]["accuracy"]
    compare(found, TRAINED[ContrastiveSettings.VERSION], of=ContrastiveSettings)


@pytest.mark.usefixtures("one_thread")
def test_image_features_change_only_with_the_version(tmp_path: Path, pinned_models, curated):
    cache_image_features(
        tmp_path,
        spec=pinned_models,
        manifests={kind: curated["manifests"][kind] for kind in "GR"},
        names={"rick", "morty"},
        settings=ImageFeatureSettings(encoders=None, parts=True, device="cpu"),
    )
    features = [load_file(file)["features"] for file in tmp_path.rglob("*.safetensors")]
    assert [len(features_ND) for features_ND in features] == [24, 24], "whole images, then parts"
    # Files are named by their images' bytes, which depend on the PNG encoder: in order of value.
    sums = sorted(float((_noise("weights", f.shape) * f).sum()) for f in features)
    found = dict(zip(("lower", "higher"), sums, strict=True))
    compare(found, FEATURES[ImageFeatureSettings.VERSION], of=ImageFeatureSettings)
