"""Mix-of-Show's merge: what each group of layers is fused on, and what is published."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from clif_exp.base_models.conditioning import TextEncoders
from clif_exp.base_models.customised import (
    customise,
    insert_embeddings,
    load_customised_pipeline,
)
from clif_exp.base_models.layerwise import (
    LAYERWISE_FILE,
    cross_attention_layers,
    save_layerwise_embeddings,
)
from clif_exp.base_models.loading import load_pipeline, text_encoders_of
from clif_exp.base_models.text_tuning import WEIGHTS_FILE, tower
from clif_exp.base_models.unet_tuning.lora import LoraTuning
from clif_exp.base_models.unet_tuning.weights import FILE, WeightTuning
from clif_exp.methods.fusing import fuse_concepts
from clif_exp.methods.gradient_fusion import fuse
from clif_exp.methods.settings import Ridge

PHRASES = {"rick": "<rick>", "morty": "<morty>"}
SPATIAL = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q")


def _fuse(tmp_path, spec, parts, **changes):
    out = tmp_path / "merged"
    out.mkdir()
    arguments = {
        "phrases": PHRASES,
        "num_inference_steps": 2,
        "seed": 0,
        "ridge": Ridge(text=0, keys_and_values=0, spatial=0),
    } | changes
    fuse_concepts(out, spec=spec, parts=parts, **arguments)
    return out


def _draw(pipeline, name):
    return pipeline(
        f"photo of a <{name}>",
        num_inference_steps=2,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
        height=32,
        width=32,
        output_type="latent",
    ).images


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize(
    "tuning",
    [
        LoraTuning(2, 2.0, SPATIAL),
        WeightTuning(SPATIAL),
        LoraTuning(2, 2.0, (*SPATIAL, "conv1", "conv2", "downsamplers.0.conv")),
    ],
)
def test_a_concept_alone_draws_what_it_drew(tmp_path, backbones, customise_apart, family, tuning):
    spec = backbones(family)
    parts = customise_apart(spec, tuning, names=("rick",))
    out = _fuse(tmp_path, spec, parts)
    drawn = []
    for folder in (parts["rick"], out):
        pipeline, num_tokens = load_customised_pipeline(spec, diffusion=folder, device="cpu")
        assert num_tokens == {"rick": 2}
        drawn.append(_draw(pipeline, "rick"))
    torch.testing.assert_close(drawn[1], drawn[0], rtol=1e-3, atol=1e-3)
    base = load_pipeline(spec)
    customise(base, parts["rick"], fuse=True)
    base.unet.load_state_dict(load_pipeline(spec).unet.state_dict())
    assert (_draw(base, "rick") - drawn[0]).abs().max() > 0.05, "the LoRA says something"


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_keys_and_values_are_every_concept_s_own_at_its_tokens_and_the_end(
    tmp_path, backbones, customise_apart, family
):
    spec = backbones(family)
    targets = ("attn2.to_k", "attn2.to_v")
    parts = customise_apart(spec, WeightTuning(targets))
    out = _fuse(tmp_path, spec, parts)
    assert {file.name for file in out.iterdir()} == {FILE, "concept_embeddings.safetensors"}
    pipeline, num_tokens = load_customised_pipeline(spec, diffusion=out, device="cpu")
    text = TextEncoders(text_encoders_of(pipeline), num_tokens, spec.record, spec.resolution)
    merged, base = load_file(out / FILE), load_pipeline(spec).unet.state_dict()
    for concept, folder in parts.items():
        own = load_file(folder / FILE)
        assert own.keys() == merged.keys()
        for prompt, here in ((f"<{concept}>", [1, 2, 3]), (f"photo of a <{concept}>", [4, 5, 6])):
            hidden = text.encode_captions([prompt])["hidden"][0, here]
            for name, weight in own.items():
                expected = hidden @ weight.T
                torch.testing.assert_close(hidden @ merged[name].T, expected, rtol=1e-3, atol=1e-3)
                assert (hidden @ base[name].T - expected).abs().max() > 0.05


def test_spatial_layers_are_fused_on_what_they_read_in_every_concept_s_own_model(
    tmp_path, backbones, customise_apart
):
    spec = backbones("sd15")
    parts = customise_apart(spec, LoraTuning(2, 2.0, SPATIAL))
    out = _fuse(tmp_path, spec, parts)
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_v"
    inputs, weights = [], []
    for concept, folder in parts.items():
        own = load_pipeline(spec)
        customise(own, folder, fuse=True)
        layer, seen = own.unet.get_submodule(name), []
        layer.register_forward_pre_hook(
            lambda _, arguments, seen=seen: seen.append(arguments[0].flatten(end_dim=-2))
        )
        _draw(own, concept)
        inputs.append(torch.cat(seen))
        weights.append(layer.weight.detach())
    base = load_pipeline(spec).unet.get_submodule(name).weight.detach()
    expected = fuse(base, inputs=inputs, weights=weights)
    torch.testing.assert_close(
        load_file(out / FILE)[f"{name}.weight"], expected, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("encoder", ["text_encoder", "text_encoder_2"])
def test_text_encoders_are_fused_and_what_the_unet_reads_is_theirs(
    tmp_path, backbones, customise_apart, add_text_lora, encoder
):
    spec = backbones("sdxl")
    parts = customise_apart(spec, LoraTuning(2, 2.0, ("to_q", "to_k", "to_v")))
    add_text_lora(parts, spec, encoder=encoder)
    out = _fuse(tmp_path, spec, parts)
    assert {file.name for file in out.iterdir()} == {
        FILE,
        WEIGHTS_FILE,
        "concept_embeddings.safetensors",
    }
    assert {key.split(".")[0] for key in load_file(out / WEIGHTS_FILE)} == {encoder}
    merged, _ = load_customised_pipeline(spec, diffusion=out, device="cpu")
    # What the first layer reads is the same in all models: the token and its position. Two places
    # differ there in the same way for both concepts, and so not quite all can be kept.
    for concept, folder in parts.items():
        own, _ = load_customised_pipeline(spec, diffusion=folder, device="cpu")
        base = load_pipeline(spec)
        insert_embeddings(base, folder)
        prompt = f"photo of a <{concept}> <{concept}>_1"
        made, expected, before = (
            _first_queries(p, encoder, prompt)[:, 4:6] for p in (merged, own, base)
        )
        assert (made - expected).norm() < 0.05 * (before - expected).norm()


def _first_queries(pipeline, encoder, prompt):
    """What the first layer's query of a text encoder makes of a prompt, [1, L, D]."""
    made, model = [], getattr(pipeline, encoder)
    tower(model).encoder.layers[0].self_attn.q_proj.register_forward_hook(
        lambda _module, _inputs, output: made.append(output)
    )
    model(pipeline.tokenizer([prompt], return_tensors="pt").input_ids)
    return made[0]


def test_each_group_has_its_own_ridge(tmp_path, backbones, customise_apart, add_text_lora):
    spec = backbones("sd15")
    parts = customise_apart(spec, LoraTuning(2, 2.0, ("to_q", "to_k", "to_v")))
    add_text_lora(parts, spec)
    base = load_pipeline(spec)
    out = _fuse(tmp_path, spec, parts, ridge=Ridge(text=1e9, keys_and_values=0, spatial=1e9))
    unet, text = base.unet.state_dict(), tower(base.text_encoder).state_dict()
    for name, value in load_file(out / FILE).items():
        stays = not name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
        assert torch.allclose(value, unet[name], atol=1e-6) == stays, name
    for name, value in load_file(out / WEIGHTS_FILE).items():
        torch.testing.assert_close(value, text[name.removeprefix("text_encoder.text_model.")])


def test_norms_are_refused(tmp_path, backbones, customise_apart):
    spec = backbones("sd15")
    parts = customise_apart(spec, WeightTuning(None), names=("rick",))
    with pytest.raises(ValueError, match=r"has changed .* of unet, but .* convolutions only"):
        _fuse(tmp_path, spec, parts)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_layer_wise_embeddings_are_fused_layer_by_layer(
    tmp_path, backbones, customise_apart, family
):
    spec = backbones(family)
    parts = customise_apart(spec, WeightTuning(("attn2.to_k", "attn2.to_v")))
    layers = cross_attention_layers(load_pipeline(spec).unet)
    for seed, (concept, folder) in enumerate(parts.items()):
        generator = torch.Generator().manual_seed(seed)
        rows = {
            encoder: {concept: torch.randn(len(layers), 2, 32, generator=generator)}
            for encoder in spec.record.encoders
        }
        save_layerwise_embeddings(folder, rows)
        (folder / "concept_embeddings.safetensors").unlink()
    out = _fuse(tmp_path, spec, parts)
    assert {file.name for file in out.iterdir()} == {FILE, LAYERWISE_FILE}
    pipeline, num_tokens = load_customised_pipeline(spec, diffusion=out, device="cpu")
    assert num_tokens == {"rick": 2, "morty": 2}
    text = TextEncoders(text_encoders_of(pipeline), num_tokens, spec.record, spec.resolution)
    merged = load_file(out / FILE)
    for concept, folder in parts.items():
        hidden = text.encode_captions([f"<{concept}>"])["hidden"].unflatten(1, (-1, 77))
        for name, weight in load_file(folder / FILE).items():
            index = next(i for i, layer in enumerate(layers) if name.startswith(f"{layer}."))
            own = hidden[0, index, 1:4]
            torch.testing.assert_close(own @ merged[name].T, own @ weight.T, rtol=1e-3, atol=1e-3)
    assert _draw(pipeline, "rick").isfinite().all()
