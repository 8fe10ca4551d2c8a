"""The recipes, one real step each: resume, publish, install, restore, stock loaders."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from clif_exp.toonworld import train
from clif_exp.toonworld.recipes import vae
from clif_exp.toonworld.recipes.corpus import render_corpus
from clif_exp.toonworld.recipes.fit import fit, load_averaged

SCENES = 16
SMALL = ("--steps", 1, "--scenes", SCENES, "--batch-size", 4)
HARDWARE = {"accelerator": "cpu", "devices": 1, "precision": "32-true"}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
    train.main()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder after one optimiser step of every model, run from the command line."""
    root = tmp_path_factory.mktemp("toonworld")
    with pytest.MonkeyPatch.context() as patch:
        run(patch, "all", *SMALL, "--root", root)
    return root


def narrow_vae() -> AutoencoderKL:
    """An autoencoder of half the shipped width."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        mid_block_add_attention=False,
        scaling_factor=1.5,
    )


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_installed_weights_load_with_stock_libraries(trained, tmp_path, monkeypatch):
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPModel

    run(monkeypatch, "install", "--root", trained, "--out", tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    image = pipeline("a cat", num_inference_steps=1, output_type="np").images[0]
    assert image.shape == (128, 128, 3)
    clip = CLIPModel.from_pretrained(tmp_path / "clip")
    tower = {
        key.removeprefix("text_model."): value
        for key, value in clip.state_dict().items()
        if key.startswith("text_model.")
    }
    own = {
        key.removeprefix("text_model."): value
        for key, value in pipeline.text_encoder.state_dict().items()
    }
    assert same({key: tower[key].float() for key in own}, own)
    assert max(file.stat().st_size for file in tmp_path.rglob("*.safetensors")) <= 15e6
    assert not [
        file for file in tmp_path.rglob("config.json") if "_name_or_path" in file.read_text()
    ], "a path of the trainer's machine"


def test_restore_is_the_inverse_of_install(trained, tmp_path, monkeypatch):
    run(monkeypatch, "install", "--root", trained, "--out", tmp_path / "shipped")
    run(monkeypatch, "restore", "--root", tmp_path / "root", "--out", tmp_path / "shipped")
    run(monkeypatch, "sam", "--warm", *SMALL, "--root", tmp_path / "root")
    before, after = (
        load_file(root / "weights" / "sam" / "model.safetensors")
        for root in (trained, tmp_path / "root")
    )
    moved = max(float((before[key].float() - after[key].float()).abs().max()) for key in before)
    assert 0 < moved < 1e-2  # one more step from there, not a start from random weights


def test_decoder_training_keeps_the_encoder(trained):
    whole, mended = (trained / name / "last.ckpt" for name in ("vae", "vae_decoder"))
    before, after = (torch.load(file, weights_only=True)["state_dict"] for file in (whole, mended))
    published = load_file(trained / "weights" / "vae" / "diffusion_pytorch_model.safetensors")
    encoder = [key for key in published if key.startswith(("encoder", "quant_conv"))]
    assert all(torch.equal(before[f"averaged.module.{key}"], published[key]) for key in encoder)
    assert not same(
        {key: after[f"averaged.module.{key}"] for key in published},
        {key: before[f"averaged.module.{key}"] for key in published},
    )


def test_widening_the_decoder_keeps_the_latents(trained, tmp_path, monkeypatch):
    """The U-Net must stay valid, and with it the latents it was trained on."""
    narrow = narrow_vae().eval()
    (tmp_path / "corpus").symlink_to(trained / "corpus")
    narrow.save_pretrained(tmp_path / "weights" / "vae")
    images, latents = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 8, 8, 8)
    recipe = train.make_recipe("vae_decoder", root=tmp_path, steps=1, scenes=SCENES)
    wide = recipe.model.eval()
    with torch.no_grad():
        assert torch.allclose(wide.decode(latents).sample, narrow.decode(latents).sample, atol=1e-4)
        before = narrow.encode(images).latent_dist.mode()
        run(monkeypatch, "vae_decoder", *SMALL, "--root", tmp_path)
        mended = AutoencoderKL.from_pretrained(tmp_path / "weights" / "vae")
        assert torch.allclose(mended.encode(images).latent_dist.mode(), before, atol=1e-5)
        assert not torch.allclose(
            mended.decode(latents).sample, narrow.decode(latents).sample, atol=1e-4
        )
    assert mended.config.scaling_factor == 1.5
    assert mended.config.block_out_channels[0] == 32


def test_a_widened_oracle_computes_what_the_narrow_one_did():
    from clif_exp.toonworld.oracle import Oracle
    from clif_exp.toonworld.recipes.widen import widened

    torch.manual_seed(0)
    narrow, wide, images = Oracle(width=128), Oracle(width=192), torch.rand(2, 3, 128, 128)
    wide.load_state_dict(widened(narrow.state_dict(), wide))
    with torch.no_grad():
        before, after = narrow(images), wide(images)
    assert all(torch.allclose(before[name], after[name], atol=1e-4) for name in before)
    copies = wide.state_dict()["hidden.weight"][:, [0, 128]]
    assert not torch.equal(copies[:, 0], copies[:, 1]), (
        "copies that are read with the same weights would stay identical"
    )


def test_a_wide_network_cannot_start_from_a_wider_one():
    from clif_exp.toonworld.oracle import Oracle
    from clif_exp.toonworld.recipes.widen import widened

    with pytest.raises(RuntimeError, match="cannot be widened"):
        widened(Oracle(width=256).state_dict(), Oracle(width=128))
    with pytest.raises(RuntimeError, match="not the same modules"):
        widened(Oracle(width=128, depth=3).state_dict(), Oracle(width=128))


def test_image_tower_training_keeps_the_text_tower(trained):
    """The U-Net was trained on the text tower's outputs."""
    before = torch.load(trained / "clip" / "last.ckpt", weights_only=True)["state_dict"]
    published = load_file(trained / "weights" / "clip" / "model.safetensors")
    whole = {key: before[f"averaged.module.clip.{key}"].half() for key in published}
    kept = [key for key in published if key.startswith(("text_", "logit_scale"))]
    assert len(kept) > 10
    assert all(torch.equal(whole[key], published[key]) for key in kept)
    assert not same(
        {key: whole[key] for key in published if key not in kept},
        {k: v for k, v in published.items() if k not in kept},
    )


def test_a_run_resumed_after_every_step_ends_with_the_same_weights(trained, tmp_path):
    corpus = render_corpus(trained / "corpus", size=SCENES, seed=1)

    def recipe():
        real = vae.recipe(corpus, steps=3, batch_size=2)
        torch.manual_seed(0)
        return replace(real, model=narrow_vae())

    assert fit(recipe(), folder=tmp_path / "whole", max_time=None, **HARDWARE)
    slices = 0
    while not fit(recipe(), folder=tmp_path / "slices", max_time=0, **HARDWARE):
        slices += 1
    assert slices == 2
    whole, sliced = (
        load_averaged(recipe(), folder=tmp_path / name).state_dict() for name in ("whole", "slices")
    )
    assert same(whole, sliced)


def test_warm_start_without_weights_is_an_error(trained, tmp_path, monkeypatch):
    (tmp_path / "corpus").symlink_to(trained / "corpus")
    with pytest.raises(FileNotFoundError, match="restore"):
        run(monkeypatch, "sam", "--warm", *SMALL, "--root", tmp_path)


def test_words_keep_their_ids_when_a_clip_is_trained_further(trained, tmp_path):
    """Building another tokenizer would change the ids, and with them the words' embeddings."""
    from transformers import CLIPTokenizer

    first = CLIPTokenizer.from_pretrained(trained / "weights" / "clip").get_vocab()
    (tmp_path / "corpus").symlink_to(trained / "corpus")
    (tmp_path / "weights").symlink_to(trained / "weights")
    for steps in (1, 2):
        recipe = train.make_recipe(
            "clip", root=tmp_path, steps=steps, scenes=SCENES, warm=steps == 1
        )
        recipe.publish(recipe.model, tmp_path / "published")
        assert CLIPTokenizer.from_pretrained(tmp_path / "published").get_vocab() == first
