"""What stage 1 trains (embeddings, a LoRA, the text encoder), what stays, and later stages' use."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from clif_exp.base_models.text_tuning import LORA_FILE, WEIGHTS_FILE
from clif_exp.base_models.tokens import load_concept_embeddings
from clif_exp.contrastive.batches import GroupedBatches
from clif_exp.contrastive.pairs import Pair
from clif_exp.contrastive.settings import BasisSettings
from clif_exp.contrastive.targets import PairMeta
from clif_exp.errors import TimeBudgetExhausted
from support import SAMPLING, settings, web_lora

FP32 = settings("trainer", precision="32-true")
PROMPT = "a photo of <rick> on the left and <morty> on the right"


@pytest.mark.parametrize("mode", ["frozen", "lora", "full"])
def test_what_is_frozen_is_bit_identical_with_weight_decay(
    mode, tmp_path, backbones, monkeypatch, train
):
    import clif_exp.base_models.loading

    spec, loaded = backbones("sd21"), []
    load = clif_exp.base_models.loading.load_contrastive
    monkeypatch.setattr(
        clif_exp.base_models.loading,
        "load_contrastive",
        lambda *a, **k: loaded.append(load(*a, **k)) or loaded[-1],
    )
    train(tmp_path / "one", spec=spec, text_encoder=mode, logit_scale="learned")
    fresh = load(spec)[0].state_dict()
    after = {
        key.replace(".base_layer", ""): value
        for key, value in loaded[0][0].state_dict().items()
        if "lora_" not in key
    }
    moved = {
        key
        for key, value in fresh.items()
        if not torch.equal(
            after[key][: len(value)] if "token_embedding" in key else after[key], value
        )
    }
    tower = {key for key in fresh if key.startswith("text_model.") and "token_embedding" not in key}
    assert moved == (tower if mode == "full" else set()), (
        "the whole tower but the token table, or nothing"
    )
    published = {"lora": LORA_FILE, "full": WEIGHTS_FILE}.get(mode)
    assert {file.name for file in (tmp_path / "one").glob("text_encoder_*.safetensors")} == (
        {published} if published else set()
    )
    if published:
        layers = {key for key in load_file(tmp_path / "one" / published) if ".layers.1." in key}
        assert not layers, "SD 2.1's pipeline has one layer less than its CLIP"


def test_checkpoints_hold_trainable_weights_only(tmp_path, backbones, train):
    with pytest.raises(TimeBudgetExhausted):
        train(
            tmp_path,
            spec=backbones("sd15"),
            text_encoder="lora",
            trainer=settings("trainer", precision="32-true", max_time=1e-6),
        )
    (file,) = (tmp_path / "checkpoints").glob("*.ckpt")
    state = torch.load(file, weights_only=True)["state_dict"]
    assert {key for key in state if "lora_" not in key} == {
        "trained_weight",
        "initial_weight",
    }
    assert sum("lora_" in key for key in state) == 2 * 2 * 2, "two layers, two modules, down and up"


@pytest.mark.parametrize(("family", "mode"), [("sd21", "lora"), ("sdxl", "lora"), ("sdxl", "full")])
def test_exports_carry_a_trained_text_encoder(family, mode, tmp_path, backbones, curated, train):
    from clif_exp.base_models.customised import load_customised_pipeline
    from clif_exp.diffusion.stage import train_diffusion
    from clif_exp.export.reading import load_export
    from clif_exp.export.stage import export_run
    from clif_exp.generation.sampling import sample

    spec, sampling = backbones(family), {"num_inference_steps": 2, "guidance_scale": 3.0}
    embeddings = (
        train(tmp_path / "one", spec=spec, text_encoder=mode) / "concept_embeddings.safetensors"
    )
    train_diffusion(
        tmp_path / "two",
        spec=spec,
        concepts=curated["concepts"],
        manifest=None,
        segments=None,
        embeddings=embeddings,
        trainer=FP32,
        seed=0,
        settings=settings(
            "diffusion",
            steps=2,
            batch_size=2,
            rank=2,
            alpha=4.0,
            learning_rate=0.05,
            validation=None,
            samples=None,
        ),
    )
    export_run(
        tmp_path / "export",
        spec=spec,
        concepts=curated["concepts"],
        diffusion=tmp_path / "two",
        config={},
        sampling=SAMPLING,
        settings=settings("export"),
    )
    ours, _ = load_customised_pipeline(spec, diffusion=tmp_path / "two", device="cpu")
    mine = sample(ours, [PROMPT], noise_seeds=[0], mixed_precision=False, **sampling)[0].astype(int)

    def draw(pipeline) -> np.ndarray:
        image = pipeline(
            PROMPT, generator=torch.Generator().manual_seed(0), output_type="np", **sampling
        ).images[0]
        return (image * 255).round().astype(int)

    stock = load_export(
        tmp_path / "export",
        base=spec.path,
        revision=None,
        family=spec.record,
        device="cpu",
    )
    assert np.abs(draw(stock) - mine).max() <= 1
    stock.unload_lora_weights()
    stock.load_lora_weights(tmp_path / "export", weight_name=web_lora(tmp_path / "export").name)
    assert np.abs(draw(stock) - mine).max() <= 1, "kohya's file"
    keys = set(load_file(web_lora(tmp_path / "export")))
    prefixes = (
        {"sd21": {"lora_te_"}, "sdxl": {"lora_te1_", "lora_te2_"}}[family]
        if mode == "lora"
        else set()
    )
    assert {key.split("text_model")[0] for key in keys if "text_model" in key} == prefixes
    folders = {"text_encoder", "text_encoder_2"} if mode == "full" else set()
    assert {folder.name for folder in (tmp_path / "export").glob("text_encoder*")} == folders
    for folder in folders:  # the prefix by which other tools know an encoder
        assert any(
            key.startswith("text_model.")
            for key in load_file(tmp_path / "export" / folder / "model.safetensors")
        )
    assert ("no LoRA file carries them" in (tmp_path / "export" / "README.md").read_text()) == (
        mode == "full"
    )


def test_a_basis_moves_no_embedding_of_an_encoder_that_does_not_train(tmp_path, backbones, train):
    from clif_exp.base_models.loading import load_text_encoders

    spec = backbones("sdxl")
    basis = BasisSettings(words=["cat", "dog", "hat"], rank=2)
    out = train(tmp_path, spec=spec, encoders=["text_encoder"], basis=basis)
    tokenizer, encoder = load_text_encoders(spec)["text_encoder_2"]
    (word,) = tokenizer("man", add_special_tokens=False).input_ids
    start = encoder.get_input_embeddings().weight[word]
    left_out = load_concept_embeddings(out / "concept_embeddings.safetensors")["text_encoder_2"]
    assert torch.equal(left_out["rick"], start.expand_as(left_out["rick"]))


def test_an_encoder_that_stage_1_leaves_out_learns_by_reconstruction(
    tmp_path, backbones, curated, train
):
    from clif_exp.diffusion.stage import train_diffusion

    spec = backbones("sdxl")
    train(
        tmp_path / "one",
        spec=spec,
        encoders=["text_encoder"],
        features=tmp_path / "features",
    )
    contrasted = load_concept_embeddings(tmp_path / "one" / "concept_embeddings.safetensors")
    assert not torch.equal(contrasted["text_encoder"]["rick"], contrasted["text_encoder"]["morty"])
    assert torch.equal(
        contrasted["text_encoder_2"]["rick"], contrasted["text_encoder_2"]["morty"]
    ), "still their class word"
    assert [folder.name for folder in (tmp_path / "features").iterdir()] == ["text_encoder"], (
        "the second tower encodes nothing"
    )
    train_diffusion(
        tmp_path / "two",
        spec=spec,
        concepts=curated["concepts"],
        manifest=None,
        segments=None,
        embeddings=tmp_path / "one" / "concept_embeddings.safetensors",
        trainer=FP32,
        seed=0,
        settings=settings(
            "diffusion",
            steps=2,
            batch_size=2,
            unet="frozen",
            prior_share=0.0,
            train_embeddings=True,
            embedding_learning_rate=0.01,
            validation=None,
            samples=None,
        ),
    )
    learnt = load_concept_embeddings(tmp_path / "two" / "concept_embeddings.safetensors")
    assert all(
        not torch.equal(learnt[encoder]["rick"], contrasted[encoder]["rick"])
        for encoder in spec.contrastive
    )


@pytest.mark.parametrize("mode", ["frozen", "lora", "full"])
def test_the_base_model_can_be_sampled_with_what_stage_1_trained(mode, tmp_path, backbones, train):
    from clif_exp.base_models.customised import load_customised_pipeline
    from clif_exp.base_models.loading import load_pipeline

    spec = backbones("sd15")
    train(tmp_path, spec=spec, text_encoder=mode)
    pipeline, num_tokens = load_customised_pipeline(spec, diffusion=tmp_path, device="cpu")
    base = load_pipeline(spec)
    assert num_tokens == {"rick": 1, "morty": 1}
    fresh = base.unet.state_dict()
    assert all(torch.equal(fresh[key], value) for key, value in pipeline.unet.state_dict().items())
    text = ["a photo of a man"]  # no concept: only a trained encoder reads it otherwise
    read = [
        p.text_encoder(p.tokenizer(text, return_tensors="pt").input_ids).last_hidden_state
        for p in (base, pipeline)
    ]
    assert torch.equal(*read) == (mode == "frozen")


def test_no_pair_is_alone_with_its_context_where_another_group_can_spare_one():
    sizes = [2, 2, 2, 3]
    pairs = [
        Pair(None, "", PairMeta(name, None, str(group), "left"), None, f"G|{group}")
        for group, size in enumerate(sizes)
        for name in ["rick", "morty", "beth"][:size]
    ]
    batches = GroupedBatches(pairs, batch_size=7, seed=0)
    found = []
    for step in range(40):
        together = Counter(pairs[index].group for index in batches(step))
        assert sum(together.values()) == 7
        found.append(sorted(together.values()))
    assert [2, 2, 3] in found and [1, 2, 2, 2] not in found


def test_a_cut_group_still_holds_several_concepts():
    names = ["rick", "rick", "morty", "morty", "beth"]
    pairs = [
        Pair(None, "", PairMeta(name, None, str(group), "left"), None, f"G|{group}")
        for group in range(4)
        for name in names
    ]
    for size in (6, 7, 11):
        batches = GroupedBatches(pairs, batch_size=size, seed=0)
        for step in range(10):
            chosen = batches(step)
            assert len(chosen) == len(set(chosen)) == size
            together = {}
            for index in chosen:
                together.setdefault(pairs[index].group, set()).add(pairs[index].meta.concept)
            assert all(len(concepts) > 1 for concepts in together.values()), (size, step)
