"""A kind of U-Net tuning is one class and one row of the registry: nothing else knows its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

from clif_exp.base_models.customised import load_customised_pipeline
from clif_exp.base_models.loading import load_pipeline
from clif_exp.base_models.spec import pipeline_folder
from clif_exp.base_models.tokens import EMBEDDINGS_FILE, save_concept_embeddings
from clif_exp.base_models.unet_tuning import registry
from clif_exp.base_models.unet_tuning.exported import Exported
from clif_exp.base_models.unet_tuning.kind import ExportFacts
from clif_exp.base_models.unet_tuning.lora import FILE as LORA_FILE
from clif_exp.base_models.unet_tuning.lora import LoraTuning
from clif_exp.base_models.unet_tuning.weights import FILE as WEIGHTS_FILE
from clif_exp.base_models.unet_tuning.weights import WeightTuning

TEXT_LAYER = "text_model.encoder.layers.0.self_attn.q_proj"


@dataclass(frozen=True)
class KeysAndValues:
    """The cross-attention's keys and values as whole matrices (Custom Diffusion)."""

    merges_text_lora: ClassVar[bool] = False
    file: ClassVar[str] = "keys_and_values.safetensors"

    def check(self, layers):
        assert layers

    def prepare(self, unet, *, seed):  # noqa: ARG002  # nothing is random
        chosen = [p for name, p in unet.named_parameters() if self.trains(name)]
        return [parameter.requires_grad_(True) for parameter in chosen]

    def save(self, unet, out, *, pipeline_class, text_lora):  # noqa: ARG002  # it has no LoRA
        state = {name: p.detach() for name, p in unet.named_parameters() if self.trains(name)}
        save_file(state, str(out / self.file))

    @staticmethod
    def trains(name):
        return name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))

    @classmethod
    def published_in(cls, folder):
        return (folder / cls.file).is_file()

    @classmethod
    def load(cls, pipeline, folder, *, fuse=False):  # noqa: ARG003  # whole matrices are
        pipeline.unet.load_state_dict(load_file(folder / cls.file), strict=False)

    @classmethod
    def export(cls, folder, out, *, facts):  # noqa: ARG003  # one file says all
        (out / cls.file).write_bytes((folder / cls.file).read_bytes())
        return Exported(files={cls.file: "diffusers"}, code=("pipe.unet.load_state_dict(...)",))


@pytest.fixture
def spec(backbones):
    return backbones("sd15")


@pytest.fixture
def text_lora():
    tensors = {
        f"{TEXT_LAYER}.lora_A.weight": torch.ones(2, 32),
        f"{TEXT_LAYER}.lora_B.weight": torch.ones(32, 2),
    }
    settings = {"r": 2, "lora_alpha": 2.0, "target_modules": ["q_proj"], "peft_type": "LORA"}
    return {"text_encoder": (tensors, settings)}


def test_another_kind_is_saved_found_loaded_and_exported(tmp_path, spec, text_lora, monkeypatch):
    monkeypatch.setitem(registry.KINDS, "keys_and_values", KeysAndValues)
    pipeline, tuning, folder = load_pipeline(spec), KeysAndValues(), tmp_path / "stage"
    folder.mkdir()
    for parameter in tuning.prepare(pipeline.unet, seed=0):
        parameter.data += 1.0
    registry.save_unet_tuning(
        folder,
        unet=pipeline.unet,
        tuning=tuning,
        pipeline_class=type(pipeline),
        text_lora=text_lora,
    )
    save_concept_embeddings(folder / EMBEDDINGS_FILE, {"text_encoder": {"rick": torch.ones(2, 32)}})
    assert {file.name for file in folder.iterdir()} == {
        KeysAndValues.file,
        LORA_FILE,  # the text encoders' LoRA, which this kind does not take in
        EMBEDDINGS_FILE,
    }
    loaded, num_tokens = load_customised_pipeline(spec, diffusion=folder, device="cpu")
    assert num_tokens == {"rick": 2}
    trained = dict(pipeline.unet.named_parameters())
    for name, parameter in loaded.unet.named_parameters():
        assert torch.equal(parameter, trained[name]), name
    changed = loaded.text_encoder.state_dict()
    kept = load_pipeline(spec).text_encoder.state_dict()
    moved = {name for name in kept if not torch.equal(changed[name][: len(kept[name])], kept[name])}
    assert {name.removeprefix("text_model.") for name in moved} == {
        "encoder.layers.0.self_attn.q_proj.weight"
    }
    (tmp_path / "export").mkdir()
    facts = ExportFacts(
        name="rick_1",
        family=spec.record,
        base_model="tiny",
        prediction="epsilon",
        resolution=32,
        concepts=("rick",),
        unet=pipeline_folder(spec) / "unet",
        lora_rank=4,
    )
    text, own = registry.export_unet_tuning(folder, tmp_path / "export", facts=facts)
    assert text.lora.ranks == {"text_encoder": 2}
    assert own.files == {KeysAndValues.file: "diffusers"}
    assert {file.name for file in (tmp_path / "export").iterdir()} == {
        KeysAndValues.file,
        LORA_FILE,
        facts.web_file,
        "kohya.safetensors",
    }


def test_a_folder_without_trained_weights_leaves_the_unet_alone(tmp_path, spec):
    pipeline = load_pipeline(spec)
    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    registry.load_unet_tuning(pipeline, tmp_path, fuse=True)
    after = pipeline.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert registry.export_unet_tuning(tmp_path, tmp_path, facts=None) == []


@pytest.mark.parametrize(
    ("target", "shapes"),
    [("to_k", {(2, 32), (32, 2)}), ("conv1", {(2, 32, 3, 3), (32, 2, 1, 1)})],
)
def test_a_lora_acts_only_when_it_has_learnt(tmp_path, spec, target, shapes):
    pipeline = load_pipeline(spec)
    tuning = LoraTuning(rank=2, alpha=4.0, target_modules=(target,))
    trained = tuning.prepare(pipeline.unet, seed=0)
    assert {parameter.shape for parameter in trained} >= shapes
    with torch.no_grad():
        for parameter in trained:
            parameter.fill_(0.5)
    registry.save_unet_tuning(
        tmp_path, unet=pipeline.unet, tuning=tuning, pipeline_class=type(pipeline), text_lora={}
    )
    loaded, base = load_pipeline(spec), load_pipeline(spec).unet.state_dict()
    registry.load_unet_tuning(loaded, tmp_path, fuse=True)
    for name, value in loaded.unet.state_dict().items():
        # 2 = alpha / rank, and 2 x 0.5 x 0.5 is the sum over the rank
        expected = base[name] + 2 * 2 * 0.25 if name.endswith(f"{target}.weight") else base[name]
        torch.testing.assert_close(value, expected)


def test_what_is_frozen_in_a_lora_stays_frozen_after_it_was_left_out(spec):
    pipeline = load_pipeline(spec)
    tuning = LoraTuning(rank=2, alpha=4.0, target_modules=("to_k",), basis=0)
    tuning.prepare(pipeline.unet, seed=0)

    def training() -> set[str]:
        return {name for name, weight in pipeline.unet.named_parameters() if weight.requires_grad}

    before = training()
    assert before and all("lora_B" in name for name in before)
    with tuning.switched_off(pipeline.unet):
        pass
    assert training() == before


@pytest.mark.parametrize("target_modules", [None, ("attn2.to_k", "attn2.to_v")])
def test_own_weights_train_switch_off_and_load(tmp_path, spec, target_modules):
    pipeline, tuning = load_pipeline(spec), WeightTuning(target_modules)
    base = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    trained = tuning.prepare(pipeline.unet, seed=0)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.5)
    moved = {
        name
        for name, value in pipeline.unet.state_dict().items()
        if not torch.equal(value, base[name])
    }
    assert moved == {
        name
        for name in base
        if target_modules is None or name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }
    with tuning.switched_off(pipeline.unet):
        inside = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    assert all(torch.equal(inside[name], value) for name, value in base.items())
    registry.save_unet_tuning(
        tmp_path, unet=pipeline.unet, tuning=tuning, pipeline_class=type(pipeline), text_lora={}
    )
    assert set(load_file(tmp_path / WEIGHTS_FILE)) == moved
    loaded = load_pipeline(spec)
    registry.load_unet_tuning(loaded, tmp_path)
    for name, value in pipeline.unet.state_dict().items():
        assert torch.equal(loaded.unet.state_dict()[name], value), name


def test_weights_of_another_model_are_refused(tmp_path, spec):
    save_file({"conv_in.weight": torch.zeros(3, 3)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(ValueError, match=r"conv_in.weight \(3, 3\) has no place .* another base"):
        registry.load_unet_tuning(load_pipeline(spec), tmp_path)


def test_targets_without_a_layer_are_refused():
    layers = {
        "down.attn2.to_k": (8, 8),
        "down.attn1.to_out.0": (8, 8),
        "down.resnets.0.conv1": (8, 8, 3, 3),
    }
    with pytest.raises(
        ValueError, match=r"no layer ends in 'to_x'.*: to_k, to_out.0; convolutions: conv1"
    ):
        WeightTuning(("to_x",)).check(layers)
    WeightTuning(None).check(layers)


def test_concepts_apart_have_no_convolutions():
    layers = {"attn2.to_k": (8, 8), "resnets.0.conv1": (8, 8, 3, 3)}
    LoraTuning(2, 2.0, ("to_k", "conv1")).check(layers)
    with pytest.raises(ValueError, match=r"resnets.0.conv1 is a convolution.*Choose linear layers"):
        LoraTuning(2, 2.0, ("to_k", "conv1"), basis=0).check(layers)
