"""SD 1.5, SD 2.1 and SDXL at full size, from their public configs; a step of each stage."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import full_size_models as full_size
from clif_exp.base_models.spec import BaseModels
from clif_exp.base_models.unet_tuning.lora import FILE as LORA_FILE
from clif_exp.base_models.unet_tuning.lora import LoraTuning
from support import settings

BF16 = settings("trainer", precision="bf16-mixed")
PARAMETERS = {
    "sd15": {"unet": 859_520_964, "text_encoder": 123_060_480},
    "sd21": {"unet": 865_910_724, "text_encoder": 340_387_840},
    "sdxl": {"unet": 2_567_463_684, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840},
}


pytestmark = pytest.mark.xdist_group(
    "full size"
)  # one after the other: each fills much of the memory


@pytest.fixture(scope="module")
def tokenizer(tiny_models):
    from clif_exp.toonworld.tokenizer import build_tokenizer

    return build_tokenizer(tiny_models.WORDS)


def count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_the_public_architectures_have_their_public_sizes_and_take_the_lora(family):
    unet = full_size.build_unet(family)
    built = {"unet": unet} | {
        name: full_size.build_text_encoder(family, name) for name in full_size.ENCODERS[family]
    }
    assert {name: count(model) for name, model in built.items()} == PARAMETERS[family]
    layers = {
        name: tuple(m.weight.shape)
        for name, m in unet.named_modules()
        if isinstance(m, torch.nn.Linear)
    }
    targets = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
    LoraTuning(320, 320.0, targets).check(layers)
    with pytest.raises(ValueError, match="is 320 wide" if family != "sdxl" else "is 640 wide"):
        LoraTuning(641, 641.0, targets).check(layers)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_one_step_of_each_stage_runs_at_full_size(
    family, tokenizer, curated, tmp_path, monkeypatch
):
    import clif_exp.base_models.loading
    from clif_exp.base_models.tokens import load_concept_embeddings
    from clif_exp.contrastive.stage import train_contrastive
    from clif_exp.diffusion.stage import train_diffusion

    # Nobody can download weights in a test: what the loaders would read is built in memory instead.
    def clip_of(_spec, encoder="text_encoder", **_):
        from transformers import CLIPImageProcessor

        size = full_size.ENCODERS[family][encoder][0]
        return (
            full_size.fill(full_size.build_clip(size, tokenizer), dtype=torch.bfloat16),
            _copy(tokenizer),
            CLIPImageProcessor(),
        )

    monkeypatch.setattr(clif_exp.base_models.loading, "load_contrastive", clip_of)
    monkeypatch.setattr(
        clif_exp.base_models.loading,
        "load_pipeline",
        lambda *_, **__: full_size.build_pipeline(family, _copy(tokenizer)),
    )
    for name, (size, drop) in full_size.ENCODERS[family].items():
        full_size.text_config(size, tokenizer, drop=drop).save_pretrained(tmp_path / "base" / name)
    encoders = dict.fromkeys(full_size.ENCODERS[family], "built in memory")
    spec = BaseModels(
        family=family, path=str(tmp_path / "base"), contrastive=encoders, resolution=64
    )
    for stage in ("one", "two"):
        (tmp_path / stage).mkdir()
    concepts, manifests = curated["concepts"], curated["manifests"]
    train_contrastive(
        tmp_path / "one",
        spec=spec,
        concepts=concepts,
        manifests={"G": manifests["G"]},
        trainer=BF16,
        features=None,
        seed=0,
        settings=settings("contrastive", basis=None, steps=1, batch_size=4),
    )
    file = tmp_path / "one" / "concept_embeddings.safetensors"
    widths = {name: rows["rick"].shape[1] for name, rows in load_concept_embeddings(file).items()}
    assert (
        widths
        == {"sd15": {"text_encoder": 768}, "sdxl": {"text_encoder": 768, "text_encoder_2": 1280}}[
            family
        ]
    )
    train_diffusion(
        tmp_path / "two",
        spec=spec,
        concepts=concepts,
        manifest=None,
        segments=None,
        embeddings=file,
        trainer=BF16,
        seed=0,
        settings=settings(
            "diffusion",
            steps=1,
            batch_size=1,
            rank=4,
            prior_share=0.0,  # the one image is to be a concept's
            warmup_steps=0,
            gradient_checkpointing=True,
            validation={"every": 1, "images": 1, "timesteps": 1},
            samples=None,
        ),
    )
    lora = load_file(tmp_path / "two" / LORA_FILE)
    assert all(
        value.dtype == torch.float32 and torch.isfinite(value).all() for value in lora.values()
    )
    assert any(value.abs().max() > 0 for name, value in lora.items() if "lora_B" in name), (
        "the LoRA learnt something"
    )


def _copy(tokenizer):
    import copy

    return copy.deepcopy(tokenizer)
