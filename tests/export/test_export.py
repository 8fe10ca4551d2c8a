"""What users take away loads in stock pipelines and draws what our own sampling draws."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from support import SAMPLING, settings, web_lora

PROMPT = "a photo of <rick> on the left and <morty> on the right"


@pytest.fixture(scope="module")
def exported(tmp_path_factory, backbones, curated):
    """family -> (spec, stage 2's folder, the export); trained until it shows, on first use."""
    from clif_exp.diffusion.stage import train_diffusion
    from clif_exp.export.stage import export_run

    made = {}

    def get(family: str):
        if family not in made:
            root = tmp_path_factory.mktemp(f"export_{family}")
            spec = backbones(family)
            train_diffusion(
                root / "diffusion",
                spec=spec,
                concepts=curated["concepts"],
                manifest=None,
                segments=None,
                embeddings=None,
                trainer=settings("trainer", precision="32-true"),
                seed=0,
                settings=settings(
                    "diffusion",
                    num_tokens=2,
                    steps=8,
                    batch_size=2,
                    rank=2,
                    alpha=4.0,
                    train_embeddings=True,
                    learning_rate=0.05,
                    embedding_learning_rate=0.05,
                    validation=None,
                    samples=None,
                ),
            )
            export_run(
                root / "export",
                spec=spec,
                concepts=curated["concepts"],
                diffusion=root / "diffusion",
                config={"diffusion": {"rank": 2}},
                sampling=SAMPLING,
                settings=settings("export"),
            )
            made[family] = spec, root / "diffusion", root / "export"
        return made[family]

    return get


def _stock(spec):
    from clif_exp.base_models.loading import load_pipeline

    return load_pipeline(spec)  # only for silence and speed: the class is the stock one


def _draw(pipeline) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return pipeline(
        PROMPT, generator=generator, num_inference_steps=3, guidance_scale=3.0, output_type="np"
    ).images[0]


def _load_embeddings(pipeline, folder, *, sdxl: bool) -> None:
    for file in sorted((folder / "embeddings").iterdir()):
        if not sdxl:
            pipeline.load_textual_inversion(str(file))
            continue
        rows = load_file(file)
        for key, suffix in (("clip_l", ""), ("clip_g", "_2")):
            encoder, tokenizer = (
                getattr(pipeline, f"text_encoder{suffix}"),
                getattr(pipeline, f"tokenizer{suffix}"),
            )
            pipeline.load_textual_inversion(
                {f"<{file.stem}>": rows[key]}, text_encoder=encoder, tokenizer=tokenizer
            )


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_a_stock_pipeline_draws_what_our_sampling_draws(family, exported):
    from clif_exp.base_models.customised import load_customised_pipeline
    from clif_exp.generation.sampling import sample

    spec, diffusion, export = exported(family)
    ours, _ = load_customised_pipeline(spec, diffusion=diffusion, device="cpu")
    how = {"num_inference_steps": 3, "guidance_scale": 3.0, "mixed_precision": False}
    mine = sample(ours, [PROMPT], noise_seeds=[0], **how)[0].astype(int)
    base = (_draw(_stock(spec)) * 255).round().astype(int)
    for lora in ("pytorch_lora_weights.safetensors", web_lora(export).name):
        pipeline = _stock(spec)
        pipeline.load_lora_weights(export, weight_name=lora)
        _load_embeddings(pipeline, export, sdxl=family == "sdxl")
        theirs = (_draw(pipeline) * 255).round().astype(int)
        assert np.abs(mine - theirs).max() <= 1, lora
    assert np.abs(mine - base).max() > 8, "the training shows"


def test_both_files_hold_the_same_update_with_or_without_an_alpha(exported):
    _, diffusion, export = exported("sd15")
    trained = load_file(diffusion / "pytorch_lora_weights.safetensors")
    file = export / "pytorch_lora_weights.safetensors"
    with safe_open(file, "pt") as opened:
        metadata = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert metadata["unet.lora_alpha"] == metadata["unet.r"] == 2
    for key, value in load_file(file).items():
        # Trained with alpha 4 and rank 2. Versions that do not read the metadata take 1 for 4 / 2.
        scale = 4.0 / 2 if key.endswith("lora_B.weight") else 1.0
        assert torch.equal(value, trained[key] * scale), key
    kohya = load_file(web_lora(export))
    assert {value.item() for key, value in kohya.items() if key.endswith(".alpha")} == {4.0}
    assert all(key.startswith("lora_unet_") for key in kohya)


def test_kohyas_naming_converts_back_to_the_same_weights(exported):
    from peft.utils import get_peft_model_state_dict

    spec, diffusion, export = exported("sd15")
    pipeline = _stock(spec)
    pipeline.load_lora_weights(export, weight_name=web_lora(export).name, adapter_name="back")
    state = get_peft_model_state_dict(pipeline.unet, adapter_name="back")
    original = load_file(diffusion / "pytorch_lora_weights.safetensors")
    assert {f"unet.{key}" for key in state} == original.keys()
    assert all(torch.equal(value, original[f"unet.{key}"]) for key, value in state.items())
    scalings = {
        module.scaling["back"] for module in pipeline.unet.modules() if hasattr(module, "scaling")
    }
    assert scalings == {4.0 / 2}, "alpha over rank"


def test_one_embedding_file_per_concept(exported):
    _, _, export = exported("sd15")
    assert sorted(file.name for file in (export / "embeddings").iterdir()) == [
        "morty.safetensors",
        "rick.safetensors",
    ]
    rows = load_file(export / "embeddings" / "rick.safetensors")
    assert list(rows) == ["<rick>"]
    assert rows["<rick>"].shape[0] == 2


def test_the_card_names_what_is_needed_and_no_path(exported, tmp_path_factory):
    spec, _, export = exported("sd15")
    card = (export / "README.md").read_text()
    assert "`<rick>`" in card
    assert "load_textual_inversion" in card
    assert "rank: 2" in card
    assert "fingerprint" in card
    assert spec.path not in card
    assert str(tmp_path_factory.getbasetemp()) not in card


def test_a_method_without_a_lora_exports_embeddings_only(tmp_path, exported, curated):
    from clif_exp.export.stage import export_run

    spec, diffusion, _ = exported("sd15")
    (tmp_path / "rows").mkdir()
    name = "concept_embeddings.safetensors"
    (tmp_path / "rows" / name).write_bytes((diffusion / name).read_bytes())
    export_run(
        tmp_path / "out",
        spec=spec,
        concepts=curated["concepts"],
        diffusion=tmp_path / "rows",
        config={},
        sampling=SAMPLING,
        settings=settings("export"),
    )
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert "load_lora_weights" not in (tmp_path / "out" / "README.md").read_text()
