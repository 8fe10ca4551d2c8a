"""Base models: found, refused with clear messages, identified by content, loaded as they are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from clif_exp.base_models.loading import (
    encode_images,
    load_contrastive,
    load_pipeline,
    load_text_encoders,
)
from clif_exp.base_models.spec import BaseModels, identity, resolve
from clif_exp.base_models.tokens import add_concept_tokens


@pytest.fixture(scope="module")
def written(tmp_path_factory, tiny_models):
    root = tmp_path_factory.mktemp("sd15")
    return root, BaseModels(**tiny_models.write_tiny_backbone(root, family="sd15"))


def _copy(written, tmp_path) -> BaseModels:
    root, spec = written
    shutil.copytree(root, tmp_path / "models")
    return replace(
        spec,
        path=str(tmp_path / "models/pipeline"),
        contrastive={"text_encoder": str(tmp_path / "models/clip")},
    )


def test_identity_follows_content_not_paths(written, tmp_path):
    _, spec = written
    copy = _copy(written, tmp_path)
    assert identity(resolve(copy)) == identity(resolve(spec))
    file = tmp_path / "models/pipeline/unet/diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    assert identity(resolve(copy)) != identity(resolve(spec))


def test_toonworld_takes_the_models_beside_the_pipeline(written):
    root, _ = written
    for path in (root, root / "pipeline"):
        spec = resolve(BaseModels(family="toonworld", path=str(path), resolution=32))
        assert spec.path == str(root / "pipeline")
        assert spec.contrastive == {"text_encoder": str(root / "clip")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "sd3"}, "model.family: found 'sd3'; known are"),
        (
            {"family": "sdxl"},
            "is a StableDiffusionPipeline; model=sdxl needs a StableDiffusionXLPipeline",
        ),
        ({"path": "/nowhere"}, "holds no model_index.json"),
        ({"resolution": 100}, "multiple of 8"),
        ({"contrastive": {}}, "needs one CLIP checkpoint for each of"),
        (
            {"contrastive": {"text_encoder": "/nowhere"}},
            "model.contrastive.text_encoder: /nowhere is not a folder",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, message, written):
    with pytest.raises(ValueError, match=message):
        resolve(replace(written[1], **changes))


def test_pickled_weights_are_refused(written, tmp_path):
    spec = _copy(written, tmp_path)
    vae = tmp_path / "models/pipeline/vae"
    (vae / "diffusion_pytorch_model.safetensors").rename(vae / "diffusion_pytorch_model.bin")
    with pytest.raises(
        ValueError, match=r"vae: .*no \.safetensors file \(found diffusion_pytorch_model.bin\)"
    ):
        resolve(spec)


def test_a_variant_alone_is_refused_before_it_is_loaded(written, tmp_path):
    spec = _copy(written, tmp_path)
    folder = tmp_path / "models/pipeline/text_encoder"
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    with pytest.raises(ValueError, match=r"text_encoder: .*a variant only \(model\.fp16\."):
        resolve(spec)


def test_code_that_comes_with_a_model_is_refused(written, tmp_path):
    spec = _copy(written, tmp_path)
    index = tmp_path / "models/pipeline/model_index.json"
    content = json.loads(index.read_text()) | {"unet": ["my_unet", "MyUNet"]}
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"brings its own code \(my_unet\)"):
        resolve(spec)


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_the_contrastive_towers_are_the_pipelines(family, tmp_path, tiny_models):
    spec = resolve(BaseModels(**tiny_models.write_tiny_backbone(tmp_path, family=family)))
    for encoder in spec.contrastive:
        clip, tokenizer, processor = load_contrastive(spec, encoder)
        assert not any(parameter.requires_grad for parameter in clip.parameters())
        assert tokenizer.eos_token_id == clip.config.text_config.eos_token_id
        assert processor is not None


def test_another_clip_is_refused_by_the_layer_that_differs(written, tmp_path, tiny_models):
    other = tiny_models.write_tiny_backbone(tmp_path, family="sd15", seed=1)
    with pytest.raises(
        ValueError,
        match=r"model.contrastive.text_encoder .*differs from the pipeline's text encoder",
    ):
        load_contrastive(replace(written[1], contrastive=other["contrastive"]))


def test_half_precision_storage_is_no_difference(written, tmp_path):
    from transformers import CLIPModel

    spec = _copy(written, tmp_path)
    for dtype in (torch.float16, torch.bfloat16):
        CLIPModel.from_pretrained(written[1].contrastive["text_encoder"]).to(dtype).save_pretrained(
            tmp_path / "models/clip"
        )
        load_contrastive(spec)


@pytest.mark.parametrize("kl", [True, False])
def test_latents_are_what_the_pipeline_decodes(kl, tmp_path, tiny_models):
    spec = resolve(BaseModels(**tiny_models.write_tiny_backbone(tmp_path, family="sd15", kl=kl)))
    pipeline = load_pipeline(spec)
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    latents = encode_images(pipeline.vae, pixels)
    assert latents.shape == (2, 4, 4, 4)
    raw = pipeline.vae.encode(pixels)
    mode = raw.latent_dist.mode() if kl else raw.latents
    torch.testing.assert_close(latents / pipeline.vae.config.scaling_factor, mode)
    if kl:
        drawn = [
            encode_images(pipeline.vae, pixels, generator=torch.Generator().manual_seed(s))
            for s in (0, 0, 1)
        ]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])


def test_pooled_text_is_read_where_the_text_ends(tmp_path, tiny_models):
    """As published: SDXL's config states an end of text that is none (transformers #24777)."""
    spec = resolve(BaseModels(**tiny_models.write_tiny_backbone(tmp_path, family="sdxl")))
    file = tmp_path / "pipeline/text_encoder_2/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": 2}))
    pipeline = load_pipeline(spec)
    texts = load_text_encoders(spec)
    for tokenizer, encoder in (
        texts["text_encoder_2"],
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        add_concept_tokens(tokenizer, encoder, concepts={"rick": "man"}, num_tokens=1)
        shown = ["a photo of <rick>", "a photo of <rick> and a cat in a jacket"]
        ids = tokenizer(shown, padding="max_length", return_tensors="pt").input_ids
        one, other = encoder(ids).text_embeds
        assert not torch.equal(one, other), "what follows a concept counts"


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_images_have_the_resolution_that_is_trained(tmp_path, tiny_models, family):
    """Whatever the base model was made for."""
    written = tiny_models.write_tiny_backbone(tmp_path, family=family)
    pipeline = load_pipeline(resolve(BaseModels(**written | {"resolution": 64})))
    image = pipeline("a photo of a man", num_inference_steps=1, guidance_scale=1.0).images[0]
    assert image.size == (64, 64)
