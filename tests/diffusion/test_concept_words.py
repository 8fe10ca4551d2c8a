"""Rare words, class words behind them, and images at other scales: DreamBooth's and Custom's."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from clif_exp.base_models.loading import load_pipeline
from clif_exp.base_models.rare_words import rare_words
from clif_exp.base_models.spec import BaseModels, resolve
from clif_exp.base_models.tokens import NewTokens, add_concept_tokens, load_concept_embeddings
from clif_exp.base_models.trained_tokens import ConceptEmbeddings
from clif_exp.base_models.unet_tuning.weights import FILE as WEIGHTS
from clif_exp.diffusion.concept_tokens import insert_concepts, known_words
from clif_exp.diffusion.frozen_parts import detach_start_of_text
from clif_exp.diffusion.images import SINGLE, TrainingImage, at_scales, load_weights
from clif_exp.diffusion.scales import Placement, draw_placement
from clif_exp.diffusion.stage import train_diffusion
from support import default_config, settings

FP32 = settings("trainer", precision="32-true")


@pytest.fixture(scope="module")
def toonworld():
    spec = resolve(BaseModels(**default_config().model.model_dump()))
    return load_pipeline(spec, device="cpu", dtype=torch.float32)


def test_rare_words_are_single_tokens_without_a_meaning(toonworld):
    known = known_words("toonworld")
    words = rare_words(toonworld.tokenizer, 18, known=known)
    assert len(set(words)) == 18
    assert not set(words) & known
    assert all(re.fullmatch("[a-z]{3}", word) for word in words)
    assert all(
        len(toonworld.tokenizer(word, add_special_tokens=False).input_ids) == 1 for word in words
    )
    with pytest.raises(ValueError, match=r"initial_words: .*rare_words.* for 5000 concepts"):
        rare_words(toonworld.tokenizer, 5000, known=known)


def test_a_concept_reads_as_its_rare_word_and_its_class_word(toonworld):
    """Copies of the words' tokens: the text encoder reads "<v>" as "sks old man"."""
    import copy

    tokenizer, encoder = copy.deepcopy((toonworld.tokenizer, toonworld.text_encoder))
    word = rare_words(tokenizer, 1, known=known_words("toonworld"))[0]
    plain = encoder(tokenizer([f"a photo of {word} boy"], return_tensors="pt").input_ids)
    ids = add_concept_tokens(
        tokenizer,
        encoder,
        concepts={"v": "boy"},
        num_tokens=1,
        initial_words={"v": word},
        class_word=True,
    )
    assert len(ids["v"]) == 2
    named = encoder(tokenizer(["a photo of <v> <v>_1"], return_tensors="pt").input_ids)
    assert torch.equal(plain.last_hidden_state, named.last_hidden_state)


def test_only_the_learnt_tokens_train_the_last_concept_s_too(toonworld):
    """Custom Diffusion's released trainer forgets the last new token."""
    import copy

    tokenizer, encoder = copy.deepcopy((toonworld.tokenizer, toonworld.text_encoder))
    encoder.requires_grad_(False)
    words = dict(zip("abc", rare_words(tokenizer, 3), strict=True))
    ids = add_concept_tokens(
        tokenizer,
        encoder,
        concepts=dict.fromkeys("abc", "boy"),
        num_tokens=1,
        initial_words=words,
        class_word=True,
    )
    held = ConceptEmbeddings(encoder, token_ids=ids, learnt=1)
    before = held.by_concept()
    batch = tokenizer([f"<{name}> <{name}>_1" for name in "abc"], return_tensors="pt").input_ids
    encoder(batch).last_hidden_state.square().sum().backward()
    torch.optim.AdamW([held.weight], lr=0.1).step()
    after = held.by_concept()
    for name in "abc":
        assert after[name].shape == (2, before[name].shape[1])
        assert not torch.equal(after[name][0], before[name][0])
        assert torch.equal(after[name][1], before[name][1])


@pytest.fixture(scope="module")
def custom(backbones, curated, prior_images, tmp_path_factory):
    """Custom Diffusion's settings, three steps on a tiny SD 1.5."""
    config = default_config("method=custom_diffusion", "debug=fast").diffusion
    changes = config.model_dump(by_alias=True) | {
        "steps": 3,
        "batch_size": 4,
        "samples": None,
        "validation": None,
        "attention": "plain",
    }
    out = tmp_path_factory.mktemp("custom")
    train_diffusion(
        out,
        spec=backbones("sd15"),
        concepts=curated["concepts"],
        manifest=None,
        segments=None,
        embeddings=None,
        trainer=FP32,
        seed=0,
        settings=settings("diffusion", **changes),
        prior=[prior_images],
    )
    return out


def test_custom_diffusion_changes_keys_values_and_new_tokens_only(custom, backbones, curated):
    trained = load_file(custom / WEIGHTS)
    assert trained
    assert all(name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) for name in trained)
    pipeline = load_pipeline(backbones("sd15"), device="cpu", dtype=torch.float32)
    base = pipeline.unet.state_dict()
    assert all(not torch.equal(value, base[name]) for name, value in trained.items())
    insert_concepts(
        pipeline,
        curated["concepts"],
        embeddings=None,
        tokens=NewTokens(1, "rare_words", class_word=True),
        world="generic",
    )
    table = pipeline.text_encoder.get_input_embeddings().weight
    for name, after in load_concept_embeddings(custom / "concept_embeddings.safetensors")[
        "text_encoder"
    ].items():
        start = pipeline.tokenizer.convert_tokens_to_ids([f"<{name}>", f"<{name}>_1"])
        assert not torch.equal(after[0], table[start[0]])
        assert torch.equal(after[1], table[start[1]])


def test_no_gradient_flows_through_the_beginning_of_text(backbones):
    unet = load_pipeline(backbones("sd15"), device="cpu", dtype=torch.float32).unet
    noisy, text = torch.randn(1, 4, 8, 8), torch.randn(1, 7, unet.config.cross_attention_dim)
    text.requires_grad_(True)
    plain = unet(noisy, 5, text).sample
    (before,) = torch.autograd.grad(plain.square().sum(), text)
    detach_start_of_text(unet)
    detached = unet(noisy, 5, text).sample
    (after,) = torch.autograd.grad(detached.square().sum(), text)
    assert torch.equal(plain, detached)
    assert before[0, 0].abs().max() > 0
    assert after[0, 0].abs().max() == 0
    assert torch.allclose(after[0, 1:], before[0, 1:])


def test_scales_are_drawn_and_told_as_published():
    rng = random.Random(0)
    drawn = [draw_placement(rng) for _ in range(3000)]
    large = [placement for placement in drawn if placement.scale > 1]
    assert 0.30 < len(large) / len(drawn) < 0.37
    assert all(1.2 <= placement.scale <= 1.4 for placement in large)
    assert all(1 / 3 <= p.scale <= 1 for p in drawn if p.scale <= 1)
    told = {0.5: "a far away |very small ", 0.8: "", 1.3: "zoomed in |close up "}
    for scale, words in told.items():
        caption = Placement(scale, 0.5, 0.5).caption("a photo of <v>", rng)
        assert re.fullmatch(f"({words})a photo of <v>", caption)


def test_a_small_image_lies_on_grey_and_only_its_inside_counts():
    red = Image.new("RGB", (64, 64), "red")
    small = Placement(0.5, 0.0, 1.0)
    pixels = np.asarray(small.apply(red))
    assert (pixels[32:, :32] == (255, 0, 0)).all()
    assert (pixels[:32] == 128).all()
    assert (pixels[:, 32:] == 128).all()
    image = TrainingImage(Path("unread.png"), SINGLE, "v", ("",), placement=small)
    weights = load_weights(image, resolution=64, latent_size=(16, 16), background=None)[0]
    assert weights.mean() == pytest.approx(1)
    assert (weights[9:15, 1:7] > 0).all()
    assert weights.count_nonzero() == 36
    assert Placement(1.3, 0.2, 0.9).apply(red).size == (64, 64)
    assert Placement(0.8, 0.2, 0.9).apply(red) is red


def test_variants_take_the_place_of_single_images_only(tmp_path):
    single = TrainingImage(tmp_path / "a.png", SINGLE, "v", ("a photo of <v>",))
    pair = TrainingImage(tmp_path / "b.png", "pair", "", ("a photo of <v> and <w>",))
    scaled = at_scales([single, pair], variants=5, seed=0)
    assert scaled[-1] is pair
    assert len(scaled) == 6
    assert len({image.placement for image in scaled[:5]}) == 5
    assert at_scales([single, pair], variants=5, seed=0) == scaled
    assert at_scales([single, pair], variants=5, seed=1) != scaled
