"""Guidance by related work, on tiny untrained models of Stable Diffusion's classes."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch

from clif_exp.base_models.attention_maps import recorded
from clif_exp.base_models.loading import load_pipeline, text_encoders_of
from clif_exp.base_models.tokens import apply_concept_embeddings
from clif_exp.generation.guidance import latents as steering
from clif_exp.generation.guidance.applying import Guided, _arguments, _text, token_positions
from clif_exp.generation.guidance.composable import composed, parts_of
from clif_exp.generation.guidance.latents import LatentGuidance, total_variation
from clif_exp.generation.guidance.regional import regional, shares, strips_of
from clif_exp.generation.sampling import sample
from clif_exp.generation.settings import Guidance
from support import default_config, settings

PROMPT = "a photo of <rick> next to <morty>"
NUM_TOKENS = {"rick": 2, "morty": 1}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def pipeline(request, backbones):
    loaded = load_pipeline(backbones(request.param))
    generator = torch.Generator().manual_seed(0)
    for tokenizer, encoder in text_encoders_of(loaded).values():
        width = encoder.get_input_embeddings().weight.shape[1]
        rows = {
            name: torch.randn(count, width, generator=generator)
            for name, count in NUM_TOKENS.items()
        }
        apply_concept_embeddings(tokenizer, encoder, rows)
    return loaded


def guided(name, prompts, **changes):
    concepts = [[one for one in NUM_TOKENS if f"<{one}>" in prompt] for prompt in prompts]
    chosen = settings("generation", guidance=name, num_inference_steps=4, **changes)
    return Guided(chosen, NUM_TOKENS, concepts, [None] * len(prompts))


def draw(pipeline, prompts, how=None, *, seeds=None):
    arrays = sample(
        pipeline,
        prompts,
        noise_seeds=seeds or list(range(len(prompts))),
        num_inference_steps=4,
        guidance_scale=3.0,
        mixed_precision=False,
        guided=how,
    )
    return [torch.from_numpy(array) for array in arrays]


def schedule(**changes):
    base = settings("generation").attend_and_excite.model_dump()
    return base | changes


def test_maps_are_the_layers_attention_and_change_nothing(pipeline):
    text = _text(pipeline, NUM_TOKENS)
    arguments = _arguments(pipeline, text, [PROMPT, "a photo of <morty>"])
    side = pipeline.unet.config.sample_size
    noise = torch.randn(2, pipeline.unet.config.in_channels, side, side)
    processors = pipeline.unet.attn_processors
    with torch.no_grad():
        stock = pipeline.unet(noise, 500, **arguments).sample
        with recorded(pipeline.unet) as maps:
            watched = pipeline.unet(noise, 500, **arguments).sample
        again = pipeline.unet(noise, 500, **arguments).sample
    assert torch.equal(watched, stock), "to the bit"
    assert torch.equal(again, stock)
    assert pipeline.unet.attn_processors == processors
    layers = [name for name, _ in pipeline.unet.named_modules() if name.endswith("attn2")]
    assert sum(len(found) for found in maps.by_size.values()) == len(layers)
    mean = maps.mean(maps.semantic_side(side))
    assert mean.shape[0] == 2
    assert mean.shape[-1] == 77
    torch.testing.assert_close(mean.sum(-1), torch.ones(mean.shape[:-1]))


def test_positions_are_those_of_the_concepts_tokens(pipeline):
    text = _text(pipeline, NUM_TOKENS)
    found = token_positions(text, [PROMPT, "a man"], concepts=[["rick", "morty"], ["rick"]])
    tokenizer = pipeline.tokenizer
    ids = text.tokenize([PROMPT])["text_encoder"][0]
    said = [
        [tokenizer.convert_ids_to_tokens(ids[place].item()) for place in own] for own in found[0]
    ]
    assert said == [["<rick>", "<rick>_1"], ["<morty>"]]
    assert found[1] == []


@pytest.mark.parametrize("name", ["attend_and_excite", "divide_and_bind"])
def test_the_weakest_concept_grows_stronger(pipeline, name):
    text = _text(pipeline, NUM_TOKENS)
    pipeline.scheduler.set_timesteps(4)
    chosen = settings("generation").attend_and_excite.model_copy(
        update={"thresholds": {}, "until": 1.0}
    )
    guidance = LatentGuidance(
        pipeline,
        name=name,
        arguments=_arguments(pipeline, text, [PROMPT]),
        positions=token_positions(text, [PROMPT], concepts=[["rick", "morty"]]),
        num_steps=4,
        settings=chosen,
    )
    side = pipeline.unet.config.sample_size
    latents = torch.randn(
        1, pipeline.unet.config.in_channels, side, side, generator=torch.Generator().manual_seed(1)
    )
    strengths = [guidance.weakest(latents, step=1).item()]
    for _ in range(8):
        latents = guidance.refined(latents, step=1)
        strengths.append(guidance.weakest(latents, step=1).item())
    assert strengths[-1] > strengths[0]
    assert sum(b > a for a, b in itertools.pairwise(strengths)) >= 6, strengths


@pytest.mark.parametrize(("threshold", "passes"), [(0.0, 1), (2.0, 6)])
def test_moves_go_on_until_every_concept_reaches_the_threshold(pipeline, threshold, passes):
    text = _text(pipeline, NUM_TOKENS)
    pipeline.scheduler.set_timesteps(4)
    guidance = LatentGuidance(
        pipeline,
        name="attend_and_excite",
        arguments=_arguments(pipeline, text, [PROMPT]),
        positions=token_positions(text, [PROMPT], concepts=[["rick", "morty"]]),
        num_steps=4,
        settings=settings("generation").attend_and_excite.model_copy(
            update={"thresholds": {0.0: threshold}, "max_refinements": 5}
        ),
    )
    side = pipeline.unet.config.sample_size
    counted = []
    handle = pipeline.unet.register_forward_hook(lambda *_: counted.append(1))
    guidance.refined(torch.randn(1, pipeline.unet.config.in_channels, side, side), step=0)
    handle.remove()
    assert len(counted) == passes  # attention is never above 1, nor below 0


@pytest.mark.parametrize("name", ["attend_and_excite", "divide_and_bind"])
def test_without_weight_images_are_the_stock_pipelines(pipeline, name):
    off = {name: schedule(scale=0.0)}
    stock, same = draw(pipeline, [PROMPT]), draw(pipeline, [PROMPT], guided(name, [PROMPT], **off))
    assert torch.equal(stock[0], same[0])


@pytest.mark.parametrize("name", ["attend_and_excite", "divide_and_bind", "composable", "regional"])
def test_only_prompts_with_concepts_are_guided_each_for_itself(pipeline, name):
    prompts = [PROMPT, "a photo of a man"]
    schedules = {name: schedule(scale=200.0)} if name in steering.STRENGTHS else {}
    how = guided(name, prompts, **schedules)
    stock, changed = draw(pipeline, prompts), draw(pipeline, prompts, how)
    assert not torch.equal(changed[0], stock[0])
    assert torch.equal(changed[1], stock[1])
    alone = draw(pipeline, [PROMPT], guided(name, [PROMPT], **_changes(how, name)))
    assert (alone[0].int() - changed[0].int()).abs().max() <= 1  # rounding of another batch size


def _changes(how, name):
    own = getattr(how.settings, name).model_dump()
    return {name: own}


def test_one_concept_alone_is_composed_as_ordinary_guidance(pipeline):
    prompt = "a photo of <rick>"
    stock = draw(pipeline, [prompt])
    assert torch.equal(draw(pipeline, [prompt], guided("composable", [prompt]))[0], stock[0])


def test_composed_noise_is_the_published_sum(pipeline):
    text, unet = _text(pipeline, NUM_TOKENS), pipeline.unet
    parts = parts_of(["rick", "morty"], context="on the beach")
    assert parts == ["a photo of <rick> on the beach", "a photo of <morty> on the beach"]
    side = unet.config.sample_size
    noise = torch.randn(1, unet.config.in_channels, side, side).repeat(2, 1, 1, 1)
    both = _arguments(pipeline, text, ["", PROMPT])
    each = _arguments(pipeline, text, parts)
    with torch.no_grad():
        empty = unet(noise, 300, **both).sample[:1]
        separate = unet(noise, 300, **each).sample
        with composed(unet, arguments=each, rows=[0, 0], weight=0.7):
            found = unet(noise, 300, **both, return_dict=False)[0]
        plain = unet(noise, 300, **both).sample
    torch.testing.assert_close(found[:1], empty)
    torch.testing.assert_close(found[1:], empty + 0.7 * (separate - empty).sum(0, keepdim=True))
    torch.testing.assert_close(plain[:1], empty)


def test_strips_share_the_columns_and_read_the_prompt_with_their_own_concept():
    strips = strips_of([PROMPT, "a photo of <rick>", "<rick> riding <morty>"])
    assert strips.texts == [
        "a photo of <rick> next to <rick>",
        "a photo of <morty> next to <morty>",
    ]
    assert (strips.prompts, strips.rows, strips.places) == (3, [0, 0], [(0, 2), (1, 2)])
    assert shares(0, 2, side=4).tolist() == [1, 1, 0, 0]
    torch.testing.assert_close(shares(1, 3, side=4), torch.tensor([0, 2 / 3, 2 / 3, 0]))
    torch.testing.assert_close(sum(shares(i, 5, side=8) for i in range(5)), torch.ones(8))


@pytest.mark.parametrize("empty", [0, 2])
@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_a_layer_reads_each_strips_own_text_there(pipeline, empty, weight):
    unet, text = pipeline.unet, _text(pipeline, NUM_TOKENS)
    prompts = ["a photo of a man", "a photo of <morty> on the right and <rick> on the left"]
    whole = _arguments(pipeline, text, [*[""] * empty, *prompts])["encoder_hidden_states"]
    strips = strips_of(prompts)
    assert [one.count("<rick>") for one in strips.texts] == [2, 0], "from left to right"
    own = _arguments(pipeline, text, strips.texts)["encoder_hidden_states"]
    name = next(name for name, _ in unet.named_modules() if name.endswith("attn2"))
    layer = unet.get_submodule(name)
    hidden = torch.randn(empty + 2, 16, layer.to_q.in_features)
    with torch.no_grad():
        stock = layer(hidden, encoder_hidden_states=whole)
        left, right = layer(hidden[[-1, -1]], encoder_hidden_states=own)
        with regional(unet, text_SLD=own, strips=strips, weight=weight):
            found = layer(hidden, encoder_hidden_states=whole)
        again = layer(hidden, encoder_hidden_states=whole)
    assert torch.equal(found[:-1], stock[:-1]), "what has no strips is left alone, to the bit"
    assert torch.equal(again, stock)
    left_half = torch.tensor([1.0, 1.0, 0.0, 0.0]).repeat(4)[:, None]
    expected = weight * torch.where(left_half > 0, left, right) + (1 - weight) * stock[-1]
    torch.testing.assert_close(found[-1], expected)


def test_total_variation_is_the_step_between_neighbours():
    stripes = torch.tensor([[[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]])
    torch.testing.assert_close(total_variation(stripes), torch.tensor([1.0]))
    torch.testing.assert_close(total_variation(stripes.mT), torch.tensor([1.0]))
    assert total_variation(torch.ones(1, 4, 4)).item() == 0


def test_settings_without_effect_are_refused_or_left_out_of_fingerprints():
    with pytest.raises(ValueError, match=r"guidance: found 'composable' with .*guidance_scale=1"):
        default_config("generation.guidance=composable", "generation.guidance_scale=1.0")
    plain, weight = settings("generation"), {"weight": 2.0}
    assert plain.relevant() == settings("generation", composable=weight).relevant()
    one, two = (
        settings("generation", guidance="composable", **changes).relevant()
        for changes in ({}, {"composable": weight})
    )
    assert one != two
    assert {*steering.STRENGTHS, "composable", "regional"} == set(get_args(Guidance))
