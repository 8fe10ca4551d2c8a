"""Cross-attention maps, on tiny untrained models of Stable Diffusion's classes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from clif_exp.artifacts.files import read_jsonl
from clif_exp.base_models.loading import load_pipeline, text_encoders_of
from clif_exp.base_models.tokens import (
    EMBEDDINGS_FILE,
    apply_concept_embeddings,
    save_concept_embeddings,
)
from clif_exp.generation.attention import (
    draw_recorded,
    heat_over,
    overlap,
    record_attention,
    select_prompts,
    token_positions,
    watched,
)
from clif_exp.generation.sampling import noise_seed, sample
from clif_exp.prompts.building import build_prompts
from clif_exp.prompts.evaluation import EvaluationPrompt
from support import settings

CLASS_WORDS = {"rick": "man", "morty": "man", "cleo": "cat"}
NUM_TOKENS = {"rick": 2, "morty": 1}
PAIR = EvaluationPrompt(
    "pair",
    "a photo of <rick> on the left and <morty> on the right",
    "multi",
    "side",
    ("rick", "morty"),
    "a photo of a man on the left and a man on the right",
)
ALONE = EvaluationPrompt(
    "alone", "a photo of <rick>", "single", "free", ("rick",), "a photo of a man"
)
FEW_STEPS = {"num_inference_steps": 3, "guidance_scale": 2.0, "mixed_precision": False}


def embeddings(pipeline):
    generator = torch.Generator().manual_seed(0)
    return {
        encoder: {
            name: torch.randn(
                count, model.get_input_embeddings().weight.shape[1], generator=generator
            )
            for name, count in NUM_TOKENS.items()
        }
        for encoder, (_, model) in text_encoders_of(pipeline).items()
    }


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl"])
def pipeline(request, backbones):
    loaded = load_pipeline(backbones(request.param))
    for encoder, rows in embeddings(loaded).items():
        apply_concept_embeddings(*text_encoders_of(loaded)[encoder], rows)
    return loaded


def drawn(pipeline, prompt, *, between=(0.0, 1.0)):
    return draw_recorded(
        pipeline,
        watched(prompt),
        seed=5,
        between=between,
        settings=settings("generation", **FEW_STEPS),
    )


def test_recording_changes_no_bit_of_an_image(pipeline):
    stock = sample(pipeline, [PAIR.text], noise_seeds=[noise_seed(PAIR.text, 5)], **FEW_STEPS)[0]
    before = pipeline.unet.attn_processors
    pixels, maps = drawn(pipeline, PAIR)
    assert pixels.tobytes() == stock.tobytes()
    assert pipeline.unet.attn_processors == before
    assert maps.by_size, "and something was recorded"


def test_maps_are_shares_at_every_size_averaged_over_the_chosen_steps(pipeline):
    _, whole = drawn(pipeline, PAIR)
    sizes = set(whole.by_size)
    assert max(sizes) == 2, "half of the tiny latents of 4"
    each = [drawn(pipeline, PAIR, between=(share, share))[1] for share in (0.0, 0.5, 1.0)]
    for side in sizes:
        mean = whole.mean(side)
        assert mean.shape == (1, side, side, 77)
        torch.testing.assert_close(mean.sum(-1), torch.ones(1, side, side))
        parts = [recording.mean(side) for recording in each]
        torch.testing.assert_close(mean, sum(parts) / 3)
        assert all(not torch.equal(a, b) for a, b in pairwise(parts))


@pytest.mark.parametrize("in_words", [False, True])
def test_the_recorded_tokens_are_those_that_name_the_concepts(pipeline, in_words):
    tokenizer = pipeline.tokenizer
    prompt = watched(PAIR, class_words=CLASS_WORDS if in_words else None)
    places = token_positions(tokenizer, prompt, num_tokens={} if in_words else NUM_TOKENS)
    text = prompt.text if in_words else prompt.text.replace("<rick>", "<rick> <rick>_1")
    read = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
    said = {
        name: [read[place].removesuffix("</w>") for place in own] for name, own in places.items()
    }
    by_name = {"rick": ["<rick>", "<rick>_1"], "morty": ["<morty>"]}
    assert said == ({"rick": ["man"], "morty": ["man"]} if in_words else by_name)
    assert places["rick"][-1] < places["morty"][0], "also where both have one class word"


def test_concepts_are_found_in_the_order_of_the_text():
    turned = EvaluationPrompt(
        "t",
        "a picture of <cleo> in front of <rick>",
        "multi",
        "interaction",
        ("rick", "cleo"),
        "a picture of a cat in front of a man",
    )
    for words in (None, CLASS_WORDS):
        found = watched(turned, class_words=words)
        named = {name: found.text[start:end] for name, (start, end) in found.words.items()}
        assert named == (
            {"cleo": "cat", "rick": "man"} if words else {"cleo": "<cleo>", "rick": "<rick>"}
        )
    assert watched(turned, class_words=CLASS_WORDS).noise_text == turned.text


def test_a_concept_is_found_whatever_article_stands_before_it():
    """Class words turn "an" into "a", which moves what follows."""
    prompt = EvaluationPrompt(
        "own",
        "an <otto> and <milo> on the beach",
        "multi",
        "context",
        ("otto", "milo"),
        "a fox and a fox on the beach",
    )
    words = {"otto": "fox", "milo": "fox"}
    assert watched(prompt).words == {"otto": (3, 9), "milo": (14, 20)}
    assert watched(prompt, class_words=words).words == {"otto": (2, 5), "milo": (12, 15)}


def test_the_first_prompt_of_each_concept_and_pair_is_watched():
    prompts = build_prompts(CLASS_WORDS, settings=settings("generation.prompts", world="generic"))
    chosen = select_prompts(prompts, singles=2, pairs=2)
    assert [(prompt.kind, prompt.layout) for prompt in chosen] == [
        *[("single", "free")] * 2,
        *[("multi", "side")] * 2,
    ]
    assert len({frozenset(prompt.concepts) for prompt in chosen}) == 4
    assert select_prompts(prompts, singles=0, pairs=0) == []


def record(out, spec, model, **changes):
    arguments = {
        "spec": spec,
        "model": model,
        "prompts": [watched(ALONE), watched(PAIR)],
        "seed": 5,
        "between": (0.0, 1.0),
        "settings": settings("generation", **FEW_STEPS),
    }
    record_attention(out, **arguments | changes)


@pytest.fixture(scope="module")
def model(backbones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    rows = embeddings(load_pipeline(backbones("sd15")))
    save_concept_embeddings(folder / EMBEDDINGS_FILE, rows)
    return folder


def test_an_artifact_holds_images_maps_of_every_token_and_overlays(backbones, model, tmp_path):
    record(tmp_path / "out", backbones("sd15"), model)
    alone, pair = read_jsonl(tmp_path / "out" / "attention.jsonl")
    assert (alone["prompt_id"], alone["overlap"]) == ("alone", None)
    assert 0 < pair["overlap"] <= 1
    maps = load_file(tmp_path / "out" / "maps" / "pair.safetensors")
    assert {key.split("/")[0]: len(value) for key, value in maps.items()} == NUM_TOKENS
    for name, files in pair["heat"].items():
        assert pair["peak"][name] == pytest.approx(maps[f"{name}/{pair['side']}"].mean(0).max())
        for side, file in files.items():
            assert maps[f"{name}/{side}"].shape[1:] == (int(side), int(side))
            assert Image.open(tmp_path / "out" / file).size == (32, 32)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"images", "maps", "heat", "attention.jsonl"}


def test_a_killed_recording_goes_on_where_it_stopped(backbones, model, tmp_path):
    record(tmp_path / "whole", backbones("sd15"), model)
    out = tmp_path / "out"
    out.mkdir()
    record(out, backbones("sd15"), model, finalize=False)
    (out / "images" / "pair.png").unlink()
    (out / "images" / "alone.png").write_bytes(b"kept")
    record(out, backbones("sd15"), model)
    assert (out / "images" / "alone.png").read_bytes() == b"kept"
    for file in ("attention.jsonl", "images/pair.png", "maps/pair.safetensors"):
        assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_overlap_and_heat_of_known_maps():
    left, right = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    assert (overlap(left, right), overlap(left, 2 * left)) == (0.0, 1.0)
    assert overlap(left, torch.tensor([[1.0, 1.0]])) == pytest.approx(0.5)
    grey = np.full((16, 16, 3), 128, np.uint8)
    heat = heat_over(grey, np.eye(2, dtype=np.float32)).astype(int).sum(-1)
    assert heat[0, 0] > heat[0, -1]
    flat = heat_over(grey, np.ones((2, 2), np.float32))
    assert len(np.unique(flat.reshape(-1, 3), axis=0)) == 1
