"""The reader of real images, with tiny untrained OWLv2 and DINOv2 models."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from clif_exp.base_models.spec import packaged_weights
from clif_exp.concepts.concept import ConceptImage
from clif_exp.errors import Refused
from clif_exp.evaluation import stage
from clif_exp.evaluation.detect_and_compare import square_crop
from clif_exp.evaluation.open_vocabulary import OpenVocabularyReader
from support import default_config, settings, write_image


def write_owl(folder, tokenizer) -> str:
    from transformers import (
        Owlv2Config,
        Owlv2ForObjectDetection,
        Owlv2ImageProcessor,
        Owlv2Processor,
        Owlv2TextConfig,
        Owlv2VisionConfig,
    )

    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    size |= {"num_hidden_layers": 2}
    text = Owlv2TextConfig(
        **size,
        vocab_size=len(tokenizer),
        max_position_embeddings=16,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    vision = Owlv2VisionConfig(**size, image_size=64, patch_size=8)
    torch.manual_seed(0)
    config = Owlv2Config(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=32
    )
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    images = Owlv2ImageProcessor(size={"height": 64, "width": 64})
    Owlv2Processor(images, tokenizer).save_pretrained(folder)
    return str(folder)


def write_dino(folder) -> str:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=28,
        patch_size=14,
    )
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    import tiny_models
    from clif_exp.toonworld.tokenizer import build_tokenizer

    root = tmp_path_factory.mktemp("models")
    tokenizer = build_tokenizer(tiny_models.WORDS)
    tokenizer.model_max_length = 16
    return {"detector": write_owl(root / "owl", tokenizer), "features": write_dino(root / "dino")}


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    root = tmp_path_factory.mktemp("references")
    return {
        name: [ConceptImage(write_image(root / name / f"{i}.png", size=(60, 40))) for i in range(3)]
        for name in ("a", "b")
    }


@pytest.fixture(scope="module")
def reader(models, references):
    return OpenVocabularyReader(
        references, queries=["a cat"], **models, min_score=0.0, leak_margin=0.05
    )


def test_figures_are_boxes_inside_the_image_with_a_likeness_to_every_concept(reader, tmp_path):
    sizes = [(60, 40), (40, 60)]
    images = [Image.open(write_image(tmp_path / f"{i}.png", size=s)) for i, s in enumerate(sizes)]
    found = reader.read(images)
    assert all(found)
    for figure in (figure for figures in found for figure in figures):
        left, top, right, bottom = figure.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert set(figure.likeness) == {"a", "b", "a>b", "b>a"}
        assert 0 <= figure.likeness["a"] <= 1 + 1e-6


def test_figures_are_compared_by_the_mean_of_all_tokens(reader, references):
    image = Image.open(references["a"][0].file).convert("RGB")
    crops = [square_crop(image, (0, 0, 0.5, 1)), image]
    features = reader.embed(crops)
    pixels = reader.features_processor(images=crops, return_tensors="pt").pixel_values
    with torch.no_grad():
        hidden = reader.features(pixel_values=pixels).last_hidden_state.mean(1)
    assert torch.allclose(features, torch.nn.functional.normalize(hidden, dim=-1), atol=1e-6)
    assert reader.embed([]).shape == (0, 32)


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("judge", {"judge": {"path": "me/absent"}}),
        ("reader", {"reader": {"detector": "me/absent"}}),
        ("reader", {"reader": {"features": "me/absent"}}),
    ],
)
def test_a_hubs_model_that_cannot_be_had_is_told_with_its_setting(models, field, given):
    from clif_exp.base_models.spec import BaseModels, resolve

    stated = settings("evaluation").judge.model_dump()
    judge = stated | {"path": str(packaged_weights() / "judge_clip")} | given.get("judge", {})
    reader = {"kind": "open_vocabulary", "queries": ["a cat"], **models, "min_score": 0.1}
    reader |= {"leak_margin": 0.05} | given.get("reader", {})
    spec = resolve(BaseModels(**default_config().model.model_dump()))
    chosen = settings("evaluation", judge=judge, reader=reader)
    assert chosen.hub_models() == {field: ["me/absent"]}
    with pytest.raises(Refused, match=rf"^evaluation\.{field}: me/absent cannot be loaded"):
        stage.get_from_hub(spec, chosen)
    there = settings("evaluation", judge=judge | {"path": None}, reader=reader | models)
    assert not there.hub_models()


def test_the_stage_measures_detect_and_compare_with_them(models, reader, tmp_path):
    from clif_exp.base_models.spec import BaseModels, resolve
    from clif_exp.concepts.reading import read_concept_set
    from clif_exp.toonworld.architectures import write_random_weights
    from clif_exp.toonworld.cast import write_cast

    write_random_weights(tmp_path / "weights")
    write_cast(tmp_path / "cast", size=2)
    concepts = read_concept_set(tmp_path / "cast")
    file = write_image(tmp_path / "made" / "0.png", size=(64, 64))
    line = {"file": "0.png", "prompt_id": "m", "prompt": "<milo> and <otto>", "kind": "multi"}
    line |= {"layout": "free", "concepts": ["milo", "otto"], "sides": None, "seed": 0}
    line |= {"text_for_alignment": "a fox and a fox"}
    (tmp_path / "made" / "generations.jsonl").write_text(json.dumps(line) + "\n")
    # Untrained models find boxes everywhere: thresholds between their scores keep three, two, one.
    best = [figure.score for figure in reader.read([Image.open(file)])[0]]
    scores = {}
    for count in (3, 2, 1):
        given = {"kind": "open_vocabulary", "queries": ["a cat"], **models, "leak_margin": 0.05}
        given["min_score"] = (best[count - 1] + best[count]) / 2
        stage.evaluate(
            tmp_path / f"out{count}",
            generations=tmp_path / "made",
            prior_before=None,
            concepts=concepts,
            dataset_root=concepts.root,
            spec=resolve(BaseModels("toonworld", str(tmp_path / "weights"), resolution=128)),
            settings=settings("evaluation", reader=given),
        )
        metrics = json.loads((tmp_path / f"out{count}" / "metrics.json").read_text())
        scores[count] = metrics["multi/detect_and_compare"]
    assert (scores[3], scores[1]) == (0.0, 0.0), "another number of figures than of concepts"
    assert scores[2] != 0
    assert -3 < scores[2] < 1
