"""Stage 2: targets, weighting, mixing, and what may move."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from clif_exp.base_models.unet_tuning.lora import FILE as LORA_FILE
from clif_exp.diffusion.batches import MixedBatches, Mixture
from clif_exp.diffusion.images import PAIR, PRIOR, SINGLE, TrainingImage
from support import settings

FP32 = settings("trainer", precision="32-true")
SHORT = {"steps": 2, "batch_size": 2, "rank": 2, "validation": None, "samples": None}


def _mixed(**mixture) -> MixedBatches:
    images = [
        TrainingImage(None, SINGLE, name, (f"a photo of <{name}>",))
        for name in ("rick", "rick", "morty")
    ]
    images += [TrainingImage(None, PAIR, "", ("<rick> and <morty>",))]
    latents = torch.arange(4.0).repeat(2).view(8, 1, 1, 1).expand(8, 4, 2, 2).clone()
    latents[4:] *= -1  # the mirrored ones
    captions = ["", "a photo of <rick>", "a photo of <morty>", "<rick> and <morty>"]
    mixed = Mixture(**{"batch_size": 8, "pair_share": 0.5, "seed": 1} | mixture)
    return MixedBatches(images, latents, None, mixed, num_timesteps=1000, captions=captions)


def test_a_batch_depends_on_seed_and_step_only():
    one, other = _mixed()(7), _mixed()(7)
    assert all(
        torch.equal(one[key], other[key])
        for key in ("latents", "noise", "timesteps", "caption_indices")
    )
    assert not torch.equal(one["noise"], _mixed()(8)["noise"])
    assert not torch.equal(one["noise"], _mixed(seed=2)(7)["noise"])


@pytest.mark.parametrize(("bias", "late"), [(1.0, 0.1), (2.0, 0.316)])
def test_timesteps_cover_the_schedule_in_every_batch_and_lean_to_noise_as_asked(bias, late):
    batches = _mixed(batch_size=64)
    batches.timestep_bias = bias
    times = torch.stack([batches(step)["timesteps"] for step in range(50)])
    assert times.min() >= 0
    assert times.max() < 1000
    assert (times >= 900).float().mean().item() == pytest.approx(late, abs=0.01)
    spread = (times >= 900).float().mean(dim=1).std().item()
    assert spread < 0.02, "an independent draw would spread by 0.04 and more from batch to batch"
    assert not torch.equal(times[0], times[0].sort().values), "ranks take slices of a batch"


def test_prior_images_and_offset_noise_come_as_asked():
    images = [
        TrainingImage(None, SINGLE, "rick", ("a photo of <rick>",)),
        TrainingImage(None, PRIOR, "man", ("a photo of a man",)),
    ]
    mixture = Mixture(batch_size=8, pair_share=0.0, prior_share=0.25, seed=1)
    made = [
        MixedBatches(
            images,
            torch.zeros(2, 4, 16, 16),
            None,
            mixture,
            num_timesteps=1000,
            captions=["", "a photo of <rick>", "a photo of a man"],
            offset_noise=offset,
        )(0)
        for offset in (0.0, 0.5)
    ]
    assert made[0]["captions"].count("a photo of a man") == 2
    spread = [batch["noise"].mean(dim=(2, 3)).std().item() for batch in made]
    assert spread[0] < 0.12 and spread[1] == pytest.approx(0.5, rel=0.4), (
        "an offset per image and channel"
    )


def test_shares_are_kept_and_concepts_are_balanced():
    counts = {"a photo of <rick>": 0, "a photo of <morty>": 0, "<rick> and <morty>": 0}
    for step in range(200):
        for caption in _mixed(pair_share=0.3)(step)["captions"]:
            counts[caption] += 1
    assert counts["<rick> and <morty>"] == pytest.approx(0.3 * 1600, rel=0.05)
    assert counts["a photo of <rick>"] == pytest.approx(counts["a photo of <morty>"], rel=0.12), (
        "though rick has two images"
    )


def test_pairs_are_never_mirrored_and_dropped_captions_are_empty():
    latents = torch.cat([_mixed(flip=True, pair_share=0.5)(step)["latents"] for step in range(20)])
    values = latents[:, 0, 0, 0].tolist()
    assert 3.0 in values
    assert -3.0 not in values
    assert -1.0 in values or -2.0 in values
    assert set(_mixed(caption_dropout=1.0)(0)["captions"]) == {""}


def test_a_caption_that_names_a_side_is_not_mirrored():
    batches = _mixed(flip=True, pair_share=0.0)
    sided = "a photo of <rick> on the LEFT of the sofa"
    images = [replace(batches.images[0], captions=(sided,))]
    mixture = replace(batches.mixture, pair_share=0.0)
    never = MixedBatches(
        images, batches.latents_NCHW, None, mixture, num_timesteps=1000, captions=["", sided]
    )
    assert {float(value) for step in range(10) for value in never(step)["latents"].unique()} == {0}
    mirrored = replace(never, latents_NCHW=torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    assert {float(v) for step in range(10) for v in mirrored(step)["latents"].unique()} == {1.0}


@pytest.mark.parametrize(
    ("family", "embeddings_train"),
    [("sd15", True), ("sd15", False), ("sd21", True), ("sdxl", True), ("sdxl", False)],
)
def test_only_what_is_trained_moves_and_both_stages_run(
    family, embeddings_train, tmp_path, backbones, curated, monkeypatch
):
    import clif_exp.base_models.loading
    from clif_exp.base_models.tokens import load_concept_embeddings
    from clif_exp.contrastive.stage import train_contrastive
    from clif_exp.diffusion.stage import train_diffusion

    loaded = []
    load = clif_exp.base_models.loading.load_pipeline
    monkeypatch.setattr(
        clif_exp.base_models.loading,
        "load_pipeline",
        lambda *a, **k: loaded.append(load(*a, **k)) or loaded[-1],
    )
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    spec = backbones(family)
    train_contrastive(
        tmp_path / "one",
        spec=spec,
        concepts=curated["concepts"],
        manifests={k: curated["manifests"][k] for k in "GR"},
        trainer=FP32,
        features=None,
        seed=0,
        settings=settings(
            "contrastive",
            basis=None,
            steps=3,
            batch_size=4,
            weight_decay=0.1,
            pooling={"G": "eos", "R": "concept"},
        ),
    )
    rows = load_concept_embeddings(tmp_path / "one" / "concept_embeddings.safetensors")
    assert sorted(rows) == sorted(spec.contrastive)
    train_diffusion(
        tmp_path / "two",
        spec=spec,
        concepts=curated["concepts"],
        manifest=curated["manifests"]["M"],
        segments=None,
        embeddings=tmp_path / "one" / "concept_embeddings.safetensors",
        trainer=FP32,
        seed=0,
        settings=settings(
            "diffusion",
            **SHORT
            | {
                "steps": 3,
                "alpha": 4.0,
                "weight_decay": 0.1,
                "train_embeddings": embeddings_train,
                "samples": {
                    "every": 0,
                    "num_inference_steps": 1,
                    "guidance_scale": 2.0,
                    "batch_size": 8,
                },
            },
        ),
    )
    fresh, trained = load(spec), loaded[-1]
    for part in ("unet", "vae", *spec.contrastive):
        after = {
            k.replace(".base_layer", ""): v
            for k, v in getattr(trained, part).state_dict().items()
            if "lora_" not in k
        }
        for key, value in getattr(fresh, part).state_dict().items():
            assert torch.equal(
                after[key][: len(value)] if "token_embedding" in key else after[key], value
            ), (part, key)
    lora = load_file(tmp_path / "two" / LORA_FILE)
    assert any(value.abs().max() > 0 for key, value in lora.items() if "lora_B" in key), (
        "the LoRA learnt something"
    )
    assert all(value.dtype == torch.float32 for value in lora.values())
    published = load_concept_embeddings(tmp_path / "two" / "concept_embeddings.safetensors")
    for encoder, concepts in rows.items():
        for name, value in concepts.items():
            assert torch.equal(published[encoder][name], value) != embeddings_train, name
    assert [file.name for file in sorted((tmp_path / "two" / "samples").glob("*.png"))] == [
        "step_000000.png",
        "step_000003.png",
    ]
    assert not (tmp_path / "two" / "checkpoints").exists()


def _train(tmp_path, backbones, curated, *, trainer=FP32, unchecked=None, **changes):
    from clif_exp.diffusion.stage import train_diffusion

    train_diffusion(
        tmp_path,
        spec=backbones("sd15"),
        concepts=curated["concepts"],
        manifest=None,
        segments=None,
        embeddings=None,
        trainer=trainer,
        seed=0,
        settings=settings("diffusion", **SHORT | changes).model_copy(update=unchecked or {}),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"target_modules": ["to_nowhere"]},
            r"diffusion.target_modules: no layer ends in 'to_nowhere'.*to_k",
        ),
        ({"rank": 64}, r"diffusion.rank: found 64, but .*conv1 is 16 wide"),
        ({"unet": "frozen", "train_embeddings": False}, "nothing would train"),
        ({"pair_share": 0.7, "prior_share": 0.5}, "shares of a batch"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message, tmp_path, backbones, curated):
    with pytest.raises(ValueError, match=message):
        _train(tmp_path, backbones, curated, **changes)


def test_a_loss_that_is_not_finite_stops_with_step_and_batch(tmp_path, backbones, curated):
    trainer = settings("trainer", precision="32-true", checkpoint_every_n_steps=1)
    diverges = {"gradient_clip": None, "warmup_steps": 0, "steps": 3}
    diverges["unchecked"] = {"learning_rate": float("inf")}  # which a user is refused
    with pytest.raises(
        ValueError, match=r"diffusion: the loss is nan at step [12] \(batch: .*<(rick|morty)>"
    ):
        _train(tmp_path, backbones, curated, trainer=trainer, **diverges)
    assert not list((tmp_path / "checkpoints").glob("*.ckpt")), (
        "weights that are not finite are no good checkpoint"
    )


def test_textual_inversion_trains_embeddings_only(tmp_path, backbones, curated):
    from clif_exp.base_models.tokens import load_concept_embeddings

    _train(
        tmp_path,
        backbones,
        curated,
        unet="frozen",
        prior_share=0.0,
        train_embeddings=True,
        embedding_learning_rate=0.1,
    )
    assert not (tmp_path / LORA_FILE).exists()
    rows = load_concept_embeddings(tmp_path / "concept_embeddings.safetensors")["text_encoder"]
    assert not torch.equal(rows["rick"], rows["morty"]), (
        "both started at their class word, and moved"
    )


def test_a_masked_loss_weighs_the_concepts_place(tmp_path):
    from PIL import Image

    from clif_exp.diffusion.images import load_weights

    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (0, 0, 16, 32))
    mask.save(tmp_path / "mask.png")
    size = {"resolution": 32, "latent_size": (4, 4)}
    image = TrainingImage(tmp_path / "unread.png", SINGLE, "v", ("",), (tmp_path / "mask.png",))
    weights = load_weights(image, background=0.1, **size)
    assert weights.mean().item() == pytest.approx(1.0)
    assert weights[0, 0, 0].item() == pytest.approx(10 * weights[0, 0, 3].item())
    unmasked = replace(image, masks=())
    assert torch.equal(load_weights(unmasked, background=0.1, **size), torch.ones(1, 4, 4))
    assert torch.equal(load_weights(image, background=None, **size), torch.ones(1, 4, 4))
