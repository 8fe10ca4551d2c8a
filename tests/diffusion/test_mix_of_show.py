"""What Mix-of-Show's training of one concept needs: noise, norms, text LoRA, attention to masks."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from clif_exp.base_models.attention_maps import CrossAttentionMaps
from clif_exp.base_models.customised import load_customised_pipeline
from clif_exp.base_models.loading import load_pipeline
from clif_exp.base_models.text_tuning import LORA_FILE
from clif_exp.base_models.tokens import NewTokens, load_concept_embeddings
from clif_exp.concepts.concept import ConceptImage
from clif_exp.diffusion.attention_loss import AttentionLoss, concept_positions
from clif_exp.diffusion.concept_tokens import insert_concepts
from clif_exp.diffusion.stage import train_diffusion
from support import default_config, settings

FP32 = settings("trainer", precision="32-true")
TEXT_LORA = {
    "learning_rate": 1e-2,
    "rank": 2,
    "alpha": 2.0,
    "target_modules": ["q_proj", "v_proj"],
}


@pytest.fixture(scope="module")
def train(backbones, curated, tmp_path_factory):
    """Train embeddings and a LoRA on tiny models; the concepts are the images' left halves."""
    mask = tmp_path_factory.mktemp("mask") / "left.png"
    half = Image.new("L", (32, 32), 0)
    half.paste(255, (0, 0, 16, 32))
    half.save(mask)
    masked = [
        replace(c, images=tuple(ConceptImage(file=image.file, mask=mask) for image in c.images))
        for c in curated["concepts"].concepts
    ]

    def run(family="sd15", **changes):
        out = tmp_path_factory.mktemp("stage")
        given = {"steps": 4, "batch_size": 4, "rank": 2, "validation": None, "samples": None}
        given |= {"prior_share": 0.0, "train_embeddings": True, "warmup_steps": 0}
        train_diffusion(
            out,
            spec=backbones(family),
            concepts=replace(curated["concepts"], concepts=tuple(masked)),
            manifest=None,
            segments=None,
            embeddings=None,
            trainer=FP32,
            seed=0,
            settings=settings("diffusion", **given | changes),
        )
        return out

    return run


def embeddings_of(folder):
    return load_concept_embeddings(folder / "concept_embeddings.safetensors")["text_encoder"]


def test_noise_is_a_concept_s_own_whoever_stands_beside_it(backbones, curated):
    given = curated["concepts"]
    tables = {}
    for name, concepts in (("all", given.concepts), ("last", given.concepts[-1:])):
        pipeline = load_pipeline(backbones("sd15"), device="cpu", dtype=torch.float32)
        spread = pipeline.text_encoder.get_input_embeddings().weight.std()
        ids = insert_concepts(
            pipeline,
            replace(given, concepts=concepts),
            embeddings=None,
            tokens=NewTokens(2, "noise_and_class_word"),
            world="generic",
        )["text_encoder"]
        own = ids[concepts[-1].name]
        tables[name] = pipeline.text_encoder.get_input_embeddings().weight[own].detach()
    assert torch.equal(tables["all"], tables["last"])
    word_id = pipeline.tokenizer(concepts[-1].class_word, add_special_tokens=False).input_ids[-1]
    table = pipeline.text_encoder.get_input_embeddings().weight
    assert torch.equal(tables["all"][1], table[word_id])
    assert 0.5 < tables["all"][0].std() / spread < 1.5


def test_embeddings_stop_at_their_norm(train):
    """At a limit of their start they stay there, decay and momentum included."""
    start = embeddings_of(train(steps=1, embedding_learning_rate=1e-12, weight_decay=0.0))
    free = embeddings_of(train(embedding_learning_rate=0.1))
    stopped = embeddings_of(train(embedding_learning_rate=0.1, embedding_norm_limit=1e-3))
    assert all(torch.allclose(stopped[name], start[name], atol=1e-9) for name in start)
    assert all((free[name] - start[name]).abs().max() > 0.01 for name in start)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_text_lora_trains_is_published_and_read(family, train, backbones):
    out = train(family, text_lora=TEXT_LORA)
    state = load_file(out / LORA_FILE)
    encoders = {name.partition(".")[0] for name in state}
    expected = {"text_encoder"} if family == "sd15" else {"text_encoder", "text_encoder_2"}
    assert encoders == expected
    untouched = {n for n, value in state.items() if "lora_B" in n and not value.any()}
    # SDXL's first encoder is read before its last layer.
    unread = "text_encoder.text_model.encoder.layers.1." if family == "sdxl" else "none"
    assert untouched == {n for n in state if "lora_B" in n and n.startswith(unread)}
    spec = backbones(family)
    tuned, _ = load_customised_pipeline(spec, diffusion=out, device="cpu")
    base = load_pipeline(spec, device="cpu", dtype=torch.float32)
    ids = base.tokenizer("a photo of a cat", return_tensors="pt").input_ids
    before, after = (p.text_encoder(ids).last_hidden_state for p in (base, tuned))
    assert (before - after).abs().max() > 1e-4


def test_attention_regularisation_reaches_the_embeddings(train):
    plain = embeddings_of(train(embedding_learning_rate=1e-3))
    held = embeddings_of(train(embedding_learning_rate=1e-3, attention_regularisation=10.0))
    assert all(not torch.equal(plain[name], held[name]) for name in plain)


def test_attention_is_regularised_with_checkpointed_gradients(train):
    options = {"embedding_learning_rate": 1e-3, "attention_regularisation": 10.0}
    whole, spared = (train(**options, gradient_checkpointing=it) for it in (False, True))
    ours, theirs = embeddings_of(whole), embeddings_of(spared)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_penalty_is_what_lies_outside():
    maps = CrossAttentionMaps()
    inside = torch.zeros(2, 4, 4, 5)
    inside[0, :, :2, 3] = 0.5  # the concept's token attends to the left half,
    inside[1, :, 2:, 3] = 0.5  # and in the second image to the right one
    maps.by_size[4] = [inside]
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., :4] = 1
    loss = AttentionLoss(2.0, torch.tensor([[-1, -1], [3, -1]]))
    penalty = loss(maps, caption_indices_B=torch.tensor([1, 1]), masks_B1HW=mask)
    assert penalty.tolist() == pytest.approx([0.0, 2.0 * 0.5])
    nobody = loss(maps, caption_indices_B=torch.tensor([0, 0]), masks_B1HW=mask)
    assert nobody.tolist() == [0.0, 0.0]


def test_positions_are_those_of_a_caption_s_only_concept():
    ids = torch.tensor([[9, 1, 50, 51, 2, 9], [9, 50, 51, 60, 61, 9], [9, 1, 2, 3, 4, 9]])
    found = concept_positions(ids, {"a": [50, 51], "b": [60, 61]})
    assert found.tolist() == [[2, 3], [-1, -1], [-1, -1]]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["diffusion.embedding_norm_limit=1.5", "diffusion.train_embeddings=false"],
            r"diffusion\.embedding_norm_limit: .*train_emb",
        ),
        (
            [
                "diffusion.attention_regularisation=0.1",
                "diffusion.prior_target=teacher",
                "diffusion.prior_share=0.4",
            ],
            r"diffusion\.attention_regularisation: .*prior_target=teacher",
        ),
        (
            ["diffusion.initial_words=noise_and_class_word", "diffusion.num_tokens=1"],
            r"diffusion\.num_tokens: found 1 .*set it to 2",
        ),
        (["diffusion.class_word=true"], r"diffusion\.class_word: .*has a stage 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        default_config(*overrides)
