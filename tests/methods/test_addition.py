"""Merging by addition: concepts that share no direction, and the exact sum of their updates."""

from __future__ import annotations

import pytest
import torch

from clif_exp.base_models.customised import load_customised_pipeline
from clif_exp.base_models.loading import load_pipeline
from clif_exp.base_models.spec import pipeline_folder
from clif_exp.base_models.unet_tuning.lora import FILE, LoraTuning, read_lora
from clif_exp.base_models.unet_tuning.orthogonal import disjoint_rows
from clif_exp.base_models.unet_tuning.registry import export_unet_tuning, load_unet_tuning
from clif_exp.base_models.unet_tuning.weights import WeightTuning
from clif_exp.methods.addition import merge_by_addition

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def _rows(concept, **changes):
    arguments = {"width": 48, "rank": 4, "seed": 0} | changes
    return disjoint_rows(arguments.pop("layer", "mid.to_q"), concept=concept, **arguments)


def test_concepts_take_disjoint_rows_of_one_orthonormal_basis():
    basis = torch.cat([_rows(concept) for concept in range(12)]).double()
    torch.testing.assert_close(
        basis @ basis.T, torch.eye(48, dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_rows_follow_from_seed_layer_and_concept_alone():
    assert torch.equal(_rows(1), _rows(1))
    for changes in ({"seed": 1}, {"layer": "mid.to_k"}):
        assert (_rows(1) - _rows(1, **changes)).abs().max() > 0.1
    assert _rows(0).dtype == torch.float32


def test_more_concepts_than_directions_are_refused():
    with pytest.raises(ValueError, match=r"found 4, for 13 concepts.*52 .*reads 48.*at most 3"):
        _rows(12)
    with pytest.raises(ValueError, match=r"for 9 concepts.*36 directions, but b.to_q reads 32"):
        LoraTuning(4, 4.0, ("to_q",), basis=8).check({"a.to_q": (16, 64), "b.to_q": (64, 32)})
    LoraTuning(4, 4.0, ("to_q",), basis=7).check({"a.to_q": (16, 64), "b.to_q": (64, 32)})


def _train(unet, trained, *, steps=3):
    optimizer = torch.optim.AdamW(trained, lr=0.05, weight_decay=0.5)
    for step in range(steps):
        torch.manual_seed(step)
        inputs = (torch.randn(2, 4, 4, 4), torch.tensor([1, 9]), torch.randn(2, 77, 32))
        unet(*inputs).sample.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_the_lower_matrices_stay_bit_for_bit_and_the_upper_ones_train(tmp_path, backbones):
    pipeline = load_pipeline(backbones("sd15"))
    tuning = LoraTuning(rank=2, alpha=2.0, target_modules=TARGETS, basis=3)
    trained = tuning.prepare(pipeline.unet, seed=5)
    adapters = {n: p for n, p in pipeline.unet.named_parameters() if "lora_" in n}
    before = {name: value.detach().clone() for name, value in adapters.items()}
    assert {id(p) for p in trained} == {id(p) for n, p in adapters.items() if "lora_B" in n}
    _train(pipeline.unet, trained)
    for name, value in adapters.items():
        assert torch.equal(value, before[name]) == ("lora_A" in name), name
    # what training holds in half precision is published in full
    for name, module in pipeline.unet.named_modules():
        if name.endswith("lora_A.default"):
            module.to(torch.bfloat16)
    tuning.save(pipeline.unet, tmp_path, pipeline_class=type(pipeline), text_lora={})
    tensors, _ = read_lora(tmp_path / FILE)
    for key, value in tensors.items():
        layer, lower, _ = key.removeprefix("unet.").partition(".lora_A.weight")
        if lower:
            width = value.shape[1]
            expected = disjoint_rows(layer, width=width, rank=2, concept=3, seed=5)
            assert torch.equal(value, expected), key


def _publish(customise_apart, spec, *, alpha=4.0, disjoint=True):
    parts = {}
    for index, name in enumerate(("rick", "morty")):
        basis = index if disjoint else None
        tuning = LoraTuning(2 + index * (not disjoint), alpha, TARGETS, basis=basis)
        parts |= customise_apart(spec, tuning, names=(name,))
    return parts


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("disjoint", [True, False])
def test_the_merged_weights_are_the_base_s_plus_every_update(
    tmp_path, backbones, customise_apart, family, disjoint
):
    spec = backbones(family)
    parts = _publish(customise_apart, spec, disjoint=disjoint)
    out = tmp_path / "merged"
    out.mkdir()
    merge_by_addition(out, parts=parts, disjoint=disjoint)
    merged, num_tokens = load_customised_pipeline(spec, diffusion=out, device="cpu")
    assert num_tokens == {"rick": 2, "morty": 2}
    base = load_pipeline(spec).unet.state_dict()
    expected = {name: value.clone() for name, value in base.items()}
    for folder in parts.values():
        own = load_pipeline(spec)
        load_unet_tuning(own, folder, fuse=True)
        for name, value in own.unet.state_dict().items():
            expected[name] += value - base[name]
    moved = 0
    for name, value in merged.unet.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5)
        moved += not torch.equal(value, base[name])
    assert moved == sum(name.endswith(tuple(f"{t}.weight" for t in TARGETS)) for name in base)


def test_a_concept_s_update_reads_nothing_of_another_s_directions(
    tmp_path, backbones, customise_apart
):
    spec = backbones("sd15")
    parts = _publish(customise_apart, spec)
    (tmp_path / "merged").mkdir()
    merge_by_addition(tmp_path / "merged", parts=parts, disjoint=True)
    base, merged, own = (load_pipeline(spec) for _ in range(3))
    load_unet_tuning(merged, tmp_path / "merged", fuse=True)
    load_unet_tuning(own, parts["rick"], fuse=True)
    tensors, _ = read_lora(parts["rick"] / FILE)
    for key, rows in tensors.items():
        if not key.endswith("lora_A.weight"):
            continue
        name = key.removeprefix("unet.").removesuffix(".lora_A.weight") + ".weight"
        made = [p.unet.state_dict()[name] @ rows.T for p in (base, merged, own)]
        torch.testing.assert_close(made[1], made[2], rtol=1e-4, atol=1e-5)
        assert (made[0] - made[2]).abs().max() > 1e-3


def test_the_merged_lora_is_exported_for_other_tools(tmp_path, backbones, customise_apart):
    from clif_exp.base_models.unet_tuning.kind import ExportFacts

    spec = backbones("sd15")
    parts = _publish(customise_apart, spec)
    out, export = tmp_path / "merged", tmp_path / "export"
    out.mkdir()
    export.mkdir()
    merge_by_addition(out, parts=parts, disjoint=True)
    facts = ExportFacts(
        name="both",
        family=spec.record,
        base_model="tiny",
        prediction="epsilon",
        resolution=32,
        concepts=("rick", "morty"),
        unet=pipeline_folder(spec) / "unet",
        lora_rank=4,
    )
    export_unet_tuning(out, export, facts=facts)
    loaded, merged = load_pipeline(spec), load_pipeline(spec)
    loaded.load_lora_weights(export, weight_name="both.safetensors")
    loaded.fuse_lora()
    loaded.unload_lora_weights()
    load_unet_tuning(merged, out, fuse=True)
    for name, value in loaded.unet.state_dict().items():
        torch.testing.assert_close(value, merged.unet.state_dict()[name], rtol=1e-5, atol=1e-5)


def test_parts_that_share_directions_or_hold_no_lora_are_refused(
    tmp_path, backbones, customise_apart
):
    spec = backbones("sd15")
    (tmp_path / "out").mkdir()
    same = customise_apart(spec, LoraTuning(2, 2.0, TARGETS, basis=0), names=("a",))
    same |= customise_apart(spec, LoraTuning(2, 2.0, TARGETS, basis=0), names=("b",))
    with pytest.raises(ValueError, match=r"'a' and 'b' share directions \(cosine 1 in .*index"):
        merge_by_addition(tmp_path / "out", parts=same, disjoint=True)
    fewer = customise_apart(spec, LoraTuning(2, 2.0, ("to_k",), basis=1), names=("c",))
    with pytest.raises(ValueError, match=r"only some of the LoRAs have it.*target_modules"):
        merge_by_addition(tmp_path / "out", parts={"a": same["a"], **fewer}, disjoint=True)
    weights = customise_apart(spec, WeightTuning(("to_k",)), names=("d",))
    with pytest.raises(ValueError, match=r"holds no pytorch_lora.*diffusion\.unet=lora"):
        merge_by_addition(tmp_path / "out", parts={"a": same["a"], **weights}, disjoint=True)
