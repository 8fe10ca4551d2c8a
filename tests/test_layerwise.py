"""Layer-wise concept embeddings: every cross-attention layer reads its own, in stock pipelines."""

from __future__ import annotations

import pytest
import torch

from clif_exp.base_models.conditioning import TextEncoders
from clif_exp.base_models.customised import customise, insert_embeddings
from clif_exp.base_models.layerwise import (
    LAYERWISE_FILE,
    LayerwiseEmbeddings,
    cross_attention_layers,
    insert_layerwise,
    load_layerwise_embeddings,
    save_layerwise_embeddings,
    slice_text,
)
from clif_exp.base_models.loading import load_pipeline, text_encoders_of
from clif_exp.base_models.tokens import (
    EMBEDDINGS_FILE,
    add_concept_tokens,
    apply_concept_embeddings,
    save_concept_embeddings,
)

FAMILIES = ["sd15", "sd21", "sdxl"]
PROMPT = "a photo of <rick> on the beach"


def _embeddings(pipeline, *, names=("rick", "morty"), seed=0):
    """Random ones of two tokens per concept, of the size of the table's."""
    generator = torch.Generator().manual_seed(seed)
    layers = len(cross_attention_layers(pipeline.unet))
    return {
        encoder: {name: torch.randn(layers, 2, 32, generator=generator) for name in names}
        for encoder in text_encoders_of(pipeline)
    }


def _draw(pipeline, *, guidance_scale=5.0, prompt=PROMPT):
    return pipeline(
        prompt,
        num_inference_steps=2,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(0),
        height=32,
        width=32,
        output_type="latent",
    ).images


def _read_by_layers(unet, seen):
    """Record what every cross-attention's key reads, by layer."""
    for name in cross_attention_layers(unet):
        unet.get_submodule(name).to_k.register_forward_pre_hook(
            lambda _module, inputs, name=name: seen.setdefault(name, inputs[0])
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_counted_in_the_order_in_which_they_compute(backbones, family):
    pipeline, seen = load_pipeline(backbones(family)), {}
    _read_by_layers(pipeline.unet, seen)
    _draw(pipeline, prompt="a photo of a man")
    named = [n for n, _ in pipeline.unet.named_modules() if n.endswith("attn2")]
    assert list(seen) == cross_attention_layers(pipeline.unet)
    assert sorted(seen) == sorted(named)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_reads_the_prompt_with_its_own_embeddings(backbones, family):
    spec = backbones(family)
    pipeline, seen = load_pipeline(spec), {}
    embeddings = _embeddings(pipeline)
    insert_layerwise(pipeline, text_encoders_of(pipeline), embeddings)
    _read_by_layers(pipeline.unet, seen)
    _draw(pipeline, guidance_scale=1.0)
    assert len(seen) == len(cross_attention_layers(pipeline.unet)) > 2
    for index, features in enumerate(seen.values()):
        stock = load_pipeline(spec)
        for name, own in embeddings.items():
            apply_concept_embeddings(
                *text_encoders_of(stock)[name], {c: rows[index] for c, rows in own.items()}
            )
        expected = stock.encode_prompt(
            PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )[0]
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    values = list(seen.values())
    assert (values[0] - values[1]).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_where_all_layers_are_alike_the_image_is_the_stock_pipeline_s(backbones, family):
    spec = backbones(family)
    stock, pipeline = load_pipeline(spec), load_pipeline(spec)
    layers = len(cross_attention_layers(stock.unet))
    rows = {encoder: {"rick": torch.randn(2, 32)} for encoder in text_encoders_of(stock)}
    for name, own in rows.items():
        apply_concept_embeddings(*text_encoders_of(stock)[name], own)
    alike = {e: {"rick": own["rick"].expand(layers, 2, 32)} for e, own in rows.items()}
    insert_layerwise(pipeline, text_encoders_of(pipeline), alike)
    for prompt in (PROMPT, "a photo of a man"):
        torch.testing.assert_close(
            _draw(pipeline, prompt=prompt), _draw(stock, prompt=prompt), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_encoded_beforehand_draw_the_same_image(backbones, family):
    spec = backbones(family)
    pipeline = load_pipeline(spec)
    insert_layerwise(pipeline, text_encoders_of(pipeline), _embeddings(pipeline))
    encoders = text_encoders_of(pipeline)
    text = TextEncoders(encoders, {"rick": 2, "morty": 2}, spec.record, spec.resolution)
    encoded = text.encode_captions([PROMPT])
    layers = len(cross_attention_layers(pipeline.unet))
    assert encoded["hidden"].shape[:2] == (1, layers * 77)
    arguments = {"prompt_embeds": encoded["hidden"]}
    if "pooled" in encoded:
        arguments["pooled_prompt_embeds"] = encoded["pooled"]
    drawn = pipeline(
        **arguments,
        num_inference_steps=2,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
        height=32,
        width=32,
        output_type="latent",
    ).images
    torch.testing.assert_close(drawn, _draw(pipeline, guidance_scale=1.0), rtol=1e-4, atol=1e-4)


def test_training_moves_each_layer_s_embeddings_and_nothing_else(backbones):
    pipeline = load_pipeline(backbones("sdxl"))
    layers = len(cross_attention_layers(pipeline.unet))
    held = {}
    for name, (tokenizer, encoder) in text_encoders_of(pipeline).items():
        ids = add_concept_tokens(tokenizer, encoder, concepts={"rick": "man"}, num_tokens=2)
        encoder.requires_grad_(False)
        held[name] = LayerwiseEmbeddings(encoder, token_ids=ids, layers=layers)
        start = encoder.get_input_embeddings().weight[ids["rick"]]
        assert torch.equal(held[name].weight, start.expand(layers, 2, 32))
    spec = backbones("sdxl")
    text = TextEncoders(text_encoders_of(pipeline), {"rick": 2}, spec.record, spec.resolution)
    before = {
        (name, key): value.clone()
        for name, (_, encoder) in text_encoders_of(pipeline).items()
        for key, value in encoder.state_dict().items()
    }
    remove = slice_text(pipeline.unet, tokens=77)
    pipeline.unet.enable_gradient_checkpointing()
    pipeline.unet.train()
    encoded = text.encode(text.tokenize([PROMPT, "a man"]))
    latents = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    pipeline.unet(latents, 3, **text.unet_arguments(encoded)).sample.square().mean().backward()
    for own in held.values():
        moved = own.weight.grad.abs().amax(dim=(1, 2))
        assert (moved > 0).all(), "every layer's embeddings have a gradient"
        with torch.no_grad():
            own.weight -= own.weight.grad
        assert own.by_concept()["rick"].shape == (layers, 2, 32)
        own.detach()
    remove()
    for name, (_, encoder) in text_encoders_of(pipeline).items():
        for key, value in encoder.state_dict().items():
            if "token_embedding" in key:
                moved = (value != before[name, key]).any(dim=1).nonzero().flatten().tolist()
                assert moved == held[name].token_ids["rick"]
            else:
                assert torch.equal(value, before[name, key]), key
    assert text.encode(text.tokenize([PROMPT]))["hidden"].shape[1] == 77
    assert _draw(pipeline).isfinite().all()


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_layer_s_gradient_is_that_of_the_features_it_reads(backbones, family):
    pipeline = load_pipeline(backbones(family))
    encoders = text_encoders_of(pipeline)
    held = insert_layerwise(pipeline, encoders, _embeddings(pipeline))
    tokenizer, encoder = encoders["text_encoder"]
    own = held["text_encoder"]
    own.weight.requires_grad_(True)
    ids = tokenizer(["<rick> <rick>_1"], padding="max_length", return_tensors="pt").input_ids
    features = encoder(ids).last_hidden_state
    features[:, 77 : 2 * 77].square().sum().backward()
    moved = own.weight.grad.abs().amax(dim=2)
    expected = torch.zeros_like(moved, dtype=torch.bool)
    expected[1, :2] = True  # the second layer's, of rick
    assert torch.equal(moved > 0, expected)


def test_a_prompt_without_a_concept_has_a_gradient_of_zero(backbones):
    """A part of a batch may have none, while nothing but these embeddings trains."""
    pipeline = load_pipeline(backbones("sd15"))
    encoders = text_encoders_of(pipeline)
    own = insert_layerwise(pipeline, encoders, _embeddings(pipeline))["text_encoder"]
    own.weight.requires_grad_(True)
    tokenizer, encoder = encoders["text_encoder"]
    ids = tokenizer(["a man"], padding="max_length", return_tensors="pt").input_ids
    encoder(ids).last_hidden_state.sum().backward()
    assert not own.weight.grad.any()


def test_they_survive_their_file_which_no_reader_takes_for_another(tmp_path, backbones):
    spec = backbones("sdxl")
    pipeline = load_pipeline(spec)
    embeddings = _embeddings(pipeline)
    save_layerwise_embeddings(tmp_path, embeddings)
    assert [file.name for file in tmp_path.iterdir()] == [LAYERWISE_FILE]
    loaded = load_layerwise_embeddings(tmp_path)
    for encoder, own in embeddings.items():
        assert all(torch.equal(loaded[encoder][name], rows) for name, rows in own.items())
    assert customise(pipeline, tmp_path, fuse=True) == {"rick": 2, "morty": 2}
    other = load_pipeline(spec)
    insert_layerwise(other, text_encoders_of(other), embeddings)
    assert torch.equal(_draw(pipeline), _draw(other))
    # a file of embeddings that are the same in all layers has another shape
    save_concept_embeddings(tmp_path / EMBEDDINGS_FILE, embeddings)
    (tmp_path / LAYERWISE_FILE).unlink()
    with pytest.raises(ValueError, match=r"found shape \(\d, 2, 32\)"):
        insert_embeddings(load_pipeline(spec), tmp_path)


def test_embeddings_of_another_unet_and_text_of_one_layer_are_refused(backbones):
    pipeline = load_pipeline(backbones("sd15"))
    few = {"text_encoder": {"rick": torch.zeros(2, 2, 32)}}
    with pytest.raises(ValueError, match=r"'rick': found shape \(2, 2, 32\).*another base model"):
        insert_layerwise(pipeline, text_encoders_of(pipeline), few)
    slice_text(pipeline.unet, tokens=77)
    with pytest.raises(ValueError, match=r"found 77 tokens.*own text encoders"):
        _draw(pipeline, prompt="a photo of a man")
