"""Gradient fusion of one layer: L-BFGS's minimum, at once."""

from __future__ import annotations

import pytest
import torch

from clif_exp.base_models.conditioning import TextEncoders
from clif_exp.base_models.loading import load_pipeline, text_encoders_of
from clif_exp.methods.gradient_fusion import (
    LayerFusion,
    affine,
    fuse,
    gram,
    objective,
    solve_all,
    with_ones,
)


def _lbfgs(base, *, inputs, weights, iterations=500):
    """As Mix-of-Show descends: from the base, lr 1, history 25, strong Wolfe."""
    weight = base.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [weight],
        lr=1,
        max_iter=iterations,
        history_size=25,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-16,
        tolerance_change=1e-16,
    )

    def closure():
        optimizer.zero_grad()
        loss = objective(weight, inputs=inputs, weights=weights)
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach()


def _weights(base, *, concepts, rank=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    update = lambda: (
        torch.randn(base.shape[0], rank, generator=generator)
        @ torch.randn(rank, base.shape[1], generator=generator)
    ).to(base)
    return [base + 0.1 * update() for _ in range(concepts)]


@pytest.fixture(scope="module")
def spatial(backbones):
    """Two concepts' inputs of a self-attention's query, and its weight, float64."""
    pipeline = load_pipeline(backbones("sd15"))
    layer = pipeline.unet.up_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q
    seen = []
    handle = layer.register_forward_pre_hook(
        lambda _, arguments: seen.append(arguments[0].flatten(end_dim=-2).double())
    )
    inputs = []
    for seed, prompt in enumerate(("a photo of a man", "a cat")):
        generator = torch.Generator().manual_seed(seed)
        # more than the layer is wide, so that the minimum is well above 0 and L-BFGS finds it
        pipeline(
            prompt,
            height=64,
            width=64,
            num_inference_steps=20,
            guidance_scale=1.0,
            generator=generator,
        )
        inputs.append(torch.cat(seen))
        seen.clear()
    handle.remove()
    return layer.weight.detach().double(), inputs


@pytest.fixture(scope="module")
def textual(spanning):
    """Two concepts' text features, fewer than the text is wide, and a key's weight, float64."""
    spec = spanning("sd15")
    pipeline = load_pipeline(spec)
    text = TextEncoders(text_encoders_of(pipeline), {}, spec.record, spec.resolution)
    hidden = text.encode_captions(["photo of a man", "photo of a cat"])["hidden"]
    weight = pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight
    return weight.detach().double(), [own[4:6].double() for own in hidden]


def test_it_reaches_the_objective_of_lbfgs_on_spatial_inputs(spatial):
    base, inputs = spatial
    problem = {"inputs": inputs, "weights": _weights(base, concepts=2)}
    ours = objective(fuse(base, **problem), **problem)
    theirs = objective(_lbfgs(base, **problem), **problem)
    assert theirs > 1e-6, "two concepts that read alike cannot both have their way"
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
    assert ours <= theirs * (1 + 1e-9)
    assert ours < 0.9 * objective(torch.stack(problem["weights"]).mean(0), **problem)


def test_with_fewer_inputs_than_their_width_it_is_the_weight_that_lbfgs_ends_at(textual):
    base, inputs = textual
    problem = {"inputs": inputs, "weights": _weights(base, concepts=2)}
    fused, descended = fuse(base, **problem), _lbfgs(base, **problem)
    start = objective(base, **problem)
    assert objective(fused, **problem) < 1e-12 * start
    assert objective(descended, **problem) < 1e-4 * start
    torch.testing.assert_close(fused, descended, rtol=1e-3, atol=1e-4)


def test_one_concept_keeps_its_own_outputs(spatial, textual):
    for base, inputs in (spatial, textual):
        own = _weights(base, concepts=1)
        fused = fuse(base, inputs=inputs[:1], weights=own)
        torch.testing.assert_close(inputs[0] @ fused.T, inputs[0] @ own[0].T, rtol=1e-6, atol=1e-6)
        assert (fused - base).norm() <= (own[0] - base).norm() * (1 + 1e-9)


def test_a_layer_that_no_concept_has_changed_stays_as_it_is(spatial):
    base, inputs = spatial
    assert torch.equal(fuse(base, inputs=inputs, weights=[base, base]), base)


def test_a_bias_is_fused_with_the_weight(spatial):
    base, inputs = spatial
    bias = torch.linspace(-1, 1, len(base), dtype=base.dtype)
    weights = [affine(w, bias + shift) for shift, w in enumerate(_weights(base, concepts=2))]
    ones = [with_ones(own) for own in inputs]
    fused = fuse(affine(base, bias), inputs=ones, weights=weights)
    expected = torch.linalg.lstsq(
        torch.cat(ones),
        torch.cat([x @ (w - affine(base, bias)).T for x, w in zip(ones, weights, strict=True)]),
        driver="gelsd",
        rcond=1e-7,
    ).solution.T
    torch.testing.assert_close(fused, affine(base, bias) + expected, rtol=1e-5, atol=1e-6)


def test_sums_of_parts_of_the_inputs_give_the_whole_s_weight(spatial):
    base, inputs = spatial
    weights = _weights(base, concepts=2)
    problem = LayerFusion.empty(inputs=base.shape[1], outputs=base.shape[0])
    for own, weight in zip(inputs, weights, strict=True):
        for part in own.split(10):
            problem.add(gram(part.float()), change_OI=weight - base)
    torch.testing.assert_close(
        base + problem.solve(ridge=0),
        fuse(base, inputs=inputs, weights=weights),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_ridge_is_one_more_input_in_every_direction(spatial):
    base, inputs = spatial
    weights = _weights(base, concepts=2)
    ridge = 0.01
    X = torch.cat(inputs)
    wanted = torch.cat([x @ (w - base).T for x, w in zip(inputs, weights, strict=True)])
    noise = (ridge * X.square().mean() * len(X)) ** 0.5
    expected = torch.linalg.lstsq(
        torch.cat([X, noise * torch.eye(X.shape[1], dtype=X.dtype)]),
        torch.cat([wanted, torch.zeros(X.shape[1], len(base), dtype=X.dtype)]),
    ).solution.T
    fused = fuse(base, inputs=inputs, weights=weights, ridge=ridge)
    torch.testing.assert_close(fused - base, expected, rtol=1e-5, atol=1e-7)
    exact = fuse(base, inputs=inputs, weights=weights)
    assert (fused - base).norm() < (exact - base).norm()


def test_layers_that_read_the_same_are_solved_as_each_would_be_alone(spatial, textual):
    problems = {}
    for kind, (base, inputs) in (("spatial", spatial), ("textual", textual)):
        for seed in range(2):
            problem = LayerFusion.empty(inputs=base.shape[1], outputs=base.shape[0])
            for own, weight in zip(inputs, _weights(base, concepts=2, seed=seed), strict=True):
                problem.add(gram(own), change_OI=weight - base)
            problems[f"{kind} {seed}"] = problem
    for name, change in solve_all(problems, ridge=0.01).items():
        assert torch.equal(change, problems[name].solve(ridge=0.01)), name
