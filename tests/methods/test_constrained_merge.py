"""Custom Diffusion's merge: meets the concepts' own keys and values, nearest to the base's."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from clif_exp.base_models.conditioning import TextEncoders
from clif_exp.base_models.customised import load_customised_pipeline
from clif_exp.base_models.loading import load_pipeline, text_encoders_of
from clif_exp.base_models.unet_tuning.lora import LoraTuning
from clif_exp.base_models.unet_tuning.targets import KEYS_AND_VALUES
from clif_exp.base_models.unet_tuning.weights import FILE, WeightTuning
from clif_exp.methods.constrained_merge import (
    constrained_merge,
    distinct,
    merge_keys_and_values,
    real_tokens,
)

TUNING = WeightTuning(KEYS_AND_VALUES)
PHRASES = {"rick": "<rick> man", "morty": "<morty>"}


def _problem(*, captions=200, width=24, outputs=10, targets=7, spread=1.0):
    """Features whose directions differ in size by `spread`, as a trained encoder's do."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    sizes = torch.logspace(0, torch.tensor(spread).log10().item(), width, dtype=torch.float64)
    return {
        "base_OI": draw(outputs, width),
        "regularisation_NI": draw(captions, width) * sizes,
        "targets_TI": draw(targets, width) * sizes,
        "outputs_TO": draw(targets, outputs),
    }


@pytest.mark.parametrize("spread", [1.0, 1e4])
def test_targets_are_met_to_rounding(spread):
    problem = _problem(spread=spread)
    merged = constrained_merge(**problem)
    met = problem["targets_TI"] @ merged.T
    torch.testing.assert_close(met, problem["outputs_TO"], rtol=1e-8, atol=1e-8)


def test_it_is_the_paper_s_closed_form():
    problem = _problem()
    base, captions, targets, outputs = problem.values()
    d = torch.linalg.solve(captions.T @ captions, targets.T).T
    expected = base + (outputs.T - base @ targets.T) @ torch.linalg.inv(d @ targets.T) @ d
    torch.testing.assert_close(constrained_merge(**problem), expected, rtol=1e-8, atol=1e-8)


def test_of_all_that_meet_the_targets_it_is_nearest_to_the_base_on_the_captions():
    from scipy.optimize import minimize

    problem = _problem(captions=40, width=6, outputs=3, targets=2)
    base, captions, targets, outputs = (value.numpy() for value in problem.values())
    found = minimize(
        lambda w: (((w.reshape(base.shape) - base) @ captions.T) ** 2).sum(),
        base.ravel(),
        jac=lambda w: (2 * (w.reshape(base.shape) - base) @ captions.T @ captions).ravel(),
        constraints={
            "type": "eq",
            "fun": lambda w: (targets @ w.reshape(base.shape).T - outputs).ravel(),
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found.success
    merged = constrained_merge(**problem)
    torch.testing.assert_close(
        merged, torch.from_numpy(found.x.reshape(base.shape)), rtol=1e-4, atol=1e-5
    )


def test_without_a_change_to_make_the_base_stays_as_it_is():
    problem = _problem()
    problem["outputs_TO"] = problem["targets_TI"] @ problem["base_OI"].T
    torch.testing.assert_close(constrained_merge(**problem), problem["base_OI"])


def test_targets_that_are_there_twice_are_one_with_the_mean_of_their_outputs():
    problem = _problem()
    once = constrained_merge(**problem)
    change = torch.zeros(7, 10, dtype=torch.float64)
    change[2] = 1.0
    problem |= {
        "targets_TI": problem["targets_TI"].repeat(2, 1) * (1 + 1e-7),
        "outputs_TO": torch.cat([problem["outputs_TO"] + change, problem["outputs_TO"] - change]),
    }
    torch.testing.assert_close(constrained_merge(**problem), once, rtol=1e-4, atol=1e-5)
    first, _ = distinct(problem["targets_TI"])
    assert first.tolist() == list(range(7))


def test_too_few_captions_and_too_many_targets_are_refused():
    with pytest.raises(ValueError, match=r"merging.captions: found 20 .* in 20 .* least 24"):
        constrained_merge(**_problem(captions=20))
    problem = _problem()
    problem["regularisation_NI"][:, 3] = problem["regularisation_NI"][:, 4]
    with pytest.raises(ValueError, match=r"merging.captions: found 23 .* in 200 .* least 24"):
        constrained_merge(**problem)
    with pytest.raises(ValueError, match=r"found 25 features .* 24 wide.*fewer concepts"):
        constrained_merge(**_problem(targets=25))


def test_beginning_of_text_and_padding_are_left_out():
    ids = torch.tensor([[90, 1, 2, 91, 91], [90, 1, 2, 3, 91]])
    expected = torch.tensor([[0, 1, 1, 1, 0], [0, 1, 1, 1, 1]]).bool()
    assert torch.equal(real_tokens(ids, end=91), expected)


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_the_merged_model_makes_every_concept_s_own_keys_and_values(
    tmp_path, spanning, customise_apart, captions, family
):
    spec = spanning(family)
    parts = customise_apart(spec, TUNING)
    out = tmp_path / "merged"
    out.mkdir()
    merge_keys_and_values(out, spec=spec, parts=parts, phrases=PHRASES, captions=captions)
    assert {file.name for file in out.iterdir()} == {FILE, "concept_embeddings.safetensors"}
    pipeline, num_tokens = load_customised_pipeline(spec, diffusion=out, device="cpu")
    assert num_tokens == {"rick": 2, "morty": 2}
    text = TextEncoders(text_encoders_of(pipeline), num_tokens, spec.record, spec.resolution)
    base = load_pipeline(spec).unet.state_dict()
    merged = pipeline.unet.state_dict()
    changed = {name for name in base if not torch.equal(merged[name], base[name])}
    assert changed == {n for n in base if n.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))}
    for concept, folder in parts.items():
        phrase = PHRASES[concept].replace(f"<{concept}>", f"<{concept}> <{concept}>_1")
        count = len(pipeline.tokenizer(phrase, add_special_tokens=False).input_ids)
        hidden = text.encode_captions([PHRASES[concept]])["hidden"][0, 1 : count + 2]
        for name, weight in load_file(folder / FILE).items():
            torch.testing.assert_close(
                hidden @ merged[name].T, hidden @ weight.T, rtol=2e-3, atol=2e-4
            )


def test_the_order_of_the_concepts_does_not_matter(tmp_path, spanning, customise_apart, captions):
    spec, merged = spanning("sd15"), []
    parts = customise_apart(spec, TUNING)
    for order in (["rick", "morty"], ["morty", "rick"]):
        out = tmp_path / "_".join(order)
        out.mkdir()
        ordered = {name: parts[name] for name in order}
        merge_keys_and_values(out, spec=spec, parts=ordered, phrases=PHRASES, captions=captions)
        merged.append(load_file(out / FILE))
    for name, value in merged[0].items():
        torch.testing.assert_close(value, merged[1][name], rtol=1e-4, atol=1e-5)


def test_parts_of_another_kind_are_refused(tmp_path, spanning, customise_apart, captions):
    spec = spanning("sd15")
    arguments = {"spec": spec, "phrases": PHRASES, "captions": captions}
    (tmp_path / "out").mkdir()
    parts = customise_apart(spec, TUNING)
    with pytest.raises(ValueError, match=r"captions: found \d+ independent .* at least 32"):
        merge_keys_and_values(
            tmp_path / "out", parts=parts, **(arguments | {"captions": ["a man", "a cat"]})
        )
    with pytest.raises(ValueError, match="holds 'other' for the text encoders"):
        merge_keys_and_values(tmp_path / "out", parts={"other": parts["rick"]}, **arguments)
    queries = customise_apart(spec, WeightTuning(("attn2.to_q",)), names=("a",))
    with pytest.raises(ValueError, match=r"attn2.to_q.weight, but .*target_modules"):
        merge_keys_and_values(tmp_path / "out", parts=queries, **arguments)
    lora = customise_apart(spec, LoraTuning(2, 2.0, ("to_k",)), names=("b",))
    with pytest.raises(ValueError, match=r"diffusion\.unet=weights"):
        merge_keys_and_values(tmp_path / "out", parts=lora, **arguments)
    (parts["rick"] / "text_encoder_weights.safetensors").touch()
    with pytest.raises(ValueError, match=r"contrastive\.text_encoder=frozen"):
        merge_keys_and_values(tmp_path / "out", parts=parts, **arguments)
