"""Stage 2's options: each acts, and those that save memory change nothing else."""

from __future__ import annotations

import csv
import json
import shutil
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from clif_exp.base_models.unet_tuning.lora import FILE as WEIGHTS
from clif_exp.base_models.unet_tuning.lora import LoraTuning
from clif_exp.concepts.concept import ConceptImage
from clif_exp.diffusion.images import SINGLE, TrainingImage, load_mask
from clif_exp.errors import TimeBudgetExhausted
from support import settings

FP32 = settings("trainer", precision="32-true")
SHORT = {
    "steps": 2,
    "batch_size": 4,
    "rank": 2,
    "learning_rate": 0.01,
    "warmup_steps": 0,
    "schedule": "constant",
    "validation": None,
    "samples": None,
}


@pytest.fixture(scope="module")
def train(backbones, curated, prior_images, tmp_path_factory):
    """Train on two concepts whose masks are the images' left half; returns the stage's folder."""
    from clif_exp.diffusion.stage import train_diffusion

    mask = tmp_path_factory.mktemp("mask") / "left.png"
    Image.new("L", (32, 32), 0).save(mask)
    with Image.open(mask) as half:
        half.paste(255, (0, 0, 16, 32))
        half.save(mask)
    given = curated["concepts"].concepts
    masked = [
        replace(c, images=tuple(ConceptImage(file=image.file, mask=mask) for image in c.images))
        for c in given
    ]
    concepts = replace(curated["concepts"], concepts=tuple(masked))

    def run(out=None, *, spec=None, trainer=FP32, seed=0, **changes):
        out = out or tmp_path_factory.mktemp("stage")
        train_diffusion(
            out,
            spec=spec or backbones("sd15"),
            concepts=concepts,
            manifest=curated["manifests"]["M"],
            segments=None,
            embeddings=None,
            trainer=trainer,
            seed=seed,
            settings=settings("diffusion", **SHORT | changes),
            prior=[prior_images] if changes.get("prior_share") else (),
        )
        return out

    return run


def toonworld():
    from clif_exp.base_models.spec import BaseModels, packaged_weights, resolve

    if not (packaged_weights() / "pipeline" / "model_index.json").is_file():
        pytest.skip("this checkout ships no trained weights")
    return resolve(BaseModels(family="toonworld", resolution=128))


@pytest.fixture(scope="module")
def plain(train):
    return train(validation={"every": 1, "images": 3, "timesteps": 2})


def rows(folder) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def difference(one, other) -> float:
    a, b = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    return max((a[name] - b[name]).abs().max().item() for name in a)


def usual_difference(one, other) -> float:
    """Return the 99th percentile of the weights' differences.

    Where a gradient is nothing but rounding, Adam steps by its sign, so single weights may differ
    by whole steps.
    """
    a, b = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    return torch.cat([(a[name] - b[name]).abs().flatten() for name in a]).quantile(0.99).item()


@pytest.mark.parametrize(
    "option",
    [
        {"masked_loss": True},
        {"min_snr_gamma": 1.0},
        {"offset_noise": 0.5},
        {"timestep_bias": 2.0},
        {"caption_dropout": 0.9},
        {"flip": True},
        {"pair_share": 0.0},
        {"prior_share": 0.5},
        {"prior_target": "teacher", "prior_share": 0.5},
        {"prior_target": "images", "prior_share": 0.5},
        {"ema_decay": 0.5},
        {"weight_decay": 5.0},
        {"gradient_clip": 1e-3},
        {"alpha": 1.0},
        {"target_modules": ["to_k"]},
    ],
    ids=lambda option: next(iter(option)),
)
def test_every_option_acts_on_what_is_published(option, train, plain):
    folder = train(**option)
    if "target_modules" in option:
        assert all(".to_k." in name for name in load_file(folder / WEIGHTS))
    else:
        assert difference(folder, plain) > 1e-6


def test_the_published_average_is_the_average_of_the_weights(train):
    averaged, last = (
        load_file(train(steps=1, ema_decay=0.9) / WEIGHTS),
        load_file(train(steps=1) / WEIGHTS),
    )
    for name, value in last.items():
        if "lora_B" in name:  # starts at zero; at step 1 the average keeps 2 / 11 of it
            torch.testing.assert_close(averaged[name], (1 - 2 / 11) * value)


def test_what_saves_memory_changes_no_result(train):
    held = []

    def count(tensor):
        held[-1] += tensor.numel()
        return tensor

    folders = []
    for option in ({}, {"gradient_checkpointing": True}, {"accumulate": 2}):
        held.append(0)
        with (
            torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor)
            if "accumulate" not in option
            else nullcontext()
        ):
            # What text encoders hold for their embeddings is spared by accumulate alone.
            folders.append(train(train_embeddings=False, **option))
    assert held[1] < 0.5 * held[0], "of the activations"
    assert difference(folders[0], folders[1]) == 0, "bit for bit"
    assert usual_difference(folders[0], folders[2]) < 1e-4
    for whole, parts in zip(rows(folders[0]), rows(folders[2]), strict=True):
        assert whole["step"] == parts["step"]
        assert float(whole["loss"]) == pytest.approx(float(parts["loss"]), rel=1e-4)


def test_autocast_without_conversions_learns_the_same(train, monkeypatch):
    from clif_exp.diffusion import frozen_parts

    mixed = {"trainer": settings("trainer", precision="bf16-mixed"), "steps": 3}
    spared = train(**mixed)
    monkeypatch.setattr(frozen_parts, "store_in_autocast_dtype", lambda *_, **__: None)
    assert difference(spared, train(**mixed)) == 0, "bit for bit"
    assert all(value.dtype == torch.float32 for value in load_file(spared / WEIGHTS).values())


def test_whole_weights_start_at_the_bases_whatever_the_precision(train, backbones, monkeypatch):
    """Rounded to what a GPU computes in, they would be off by more than a training moves them."""
    from clif_exp.base_models.loading import load_pipeline
    from clif_exp.base_models.unet_tuning.weights import FILE
    from clif_exp.diffusion import frozen_parts

    monkeypatch.setattr(frozen_parts, "base_dtype", lambda _: torch.bfloat16)
    mixed = settings("trainer", precision="bf16-mixed")
    still = {"learning_rate": 1e-12, "weight_decay": 0.0}
    out = train(unet="weights", target_modules=["attn2.to_k"], trainer=mixed, **still)
    base = load_pipeline(backbones("sd15")).unet.state_dict()
    trained = load_file(out / FILE)
    assert trained
    assert all(torch.allclose(w, base[name], rtol=0, atol=1e-9) for name, w in trained.items())


def test_masks_are_read_as_curation_reads_them(tmp_path):
    """The opaque part of a cut-out is the concept, and a phone's mask is turned upright."""
    cutout = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    cutout.paste((0, 0, 0, 255), (0, 0, 16, 32))
    cutout.save(tmp_path / "cutout.png")
    lying, turned = Image.new("L", (32, 32), 0), Image.Exif()
    lying.paste(255, (0, 0, 32, 16))  # the upper half, to be turned by 90 degrees: the right one
    turned[0x0112] = 6
    lying.save(tmp_path / "turned.png", exif=turned)

    def left_half(name: str) -> float:
        image = TrainingImage(tmp_path / name, SINGLE, "a", ("",), (tmp_path / name,))
        mask_1HW = load_mask(image, resolution=32, latent_size=(4, 4))
        assert float(mask_1HW.mean()) == 0.5
        return float(mask_1HW[..., :2].mean())

    assert (left_half("cutout.png"), left_half("turned.png")) == (1.0, 0.0)


def test_a_run_in_parts_resumes_exactly(train, tmp_path):
    undisturbed = train(steps=3, accumulate=2, ema_decay=0.5)
    for step in (1, 2):
        with pytest.raises(TimeBudgetExhausted, match=f"at step {step} of 3"):
            train(
                tmp_path,
                steps=3,
                accumulate=2,
                ema_decay=0.5,
                trainer=settings(
                    "trainer", precision="32-true", max_time=1e-6, checkpoint_every_n_steps=1
                ),
            )
    train(tmp_path, steps=3, accumulate=2, ema_decay=0.5)
    assert difference(undisturbed, tmp_path) == 0
    assert rows(undisturbed) == rows(tmp_path)


def test_a_run_stopped_after_its_last_step_ends_as_if_undisturbed(train, tmp_path, monkeypatch):
    from clif_exp.training import fit

    options = {"steps": 3, "ema_decay": 0.5}
    options["trainer"] = settings("trainer", precision="32-true", checkpoint_every_n_steps=1)
    undisturbed = train(**options)

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fit.shutil, "rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, **options)
    train(tmp_path, **options)
    assert difference(undisturbed, tmp_path) == 0
    assert rows(undisturbed) == rows(tmp_path)


def test_eight_bit_adam_keeps_bytes_learns_alike_and_resumes_exactly(train, tmp_path):
    pytest.importorskip("bitsandbytes")
    # the shipped U-Net: bitsandbytes keeps states of less than 4,096 weights in fp32, and the tiny
    # models have no larger ones
    some = {"spec": toonworld(), "rank": 32, "steps": 4, "weight_decay": 0.1}
    exact, undisturbed = train(**some), train(**some, optimizer="adamw8bit")
    assert 0 < usual_difference(exact, undisturbed) < 0.01, (
        "at most a quarter of what four steps of 0.01 can move"
    )
    for step in (1, 2, 3):
        with pytest.raises(TimeBudgetExhausted, match=f"at step {step} of 4"):
            train(
                tmp_path,
                **some,
                optimizer="adamw8bit",
                trainer=settings(
                    "trainer", precision="32-true", max_time=1e-6, checkpoint_every_n_steps=1
                ),
            )
    file = sorted(tmp_path.rglob("*.ckpt"))[-1]
    states = torch.load(file, weights_only=True)["optimizer_states"][0]["state"].values()
    moments = [state.get("__bnb_optimizer_quant_state__", state)["state1"] for state in states]
    assert {moment.dtype for moment in moments} == {torch.uint8}
    train(tmp_path, **some, optimizer="adamw8bit")
    assert difference(undisturbed, tmp_path) == 0
    assert rows(undisturbed) == rows(tmp_path)


def test_both_kinds_of_attention_agree(train, plain):
    assert usual_difference(train(attention="sdpa"), plain) < 1e-4


def test_the_validation_loss_has_no_noise_of_its_own(train, plain):
    lines = rows(plain)
    assert [line["step"] for line in lines] == ["0", "1", "2"]
    assert lines[0]["loss"] == ""
    assert all(line["validation_loss"] for line in lines)
    other = rows(train(seed=1, validation={"every": 5, "images": 3, "timesteps": 2}))
    assert other[0]["validation_loss"] == lines[0]["validation_loss"], (
        "the base model's loss, whatever the seed"
    )
    assert [bool(line["validation_loss"]) for line in other] == [
        True,
        False,
        True,
    ], "step 0 and the last one always"


def test_weights_train_in_fp32_on_a_half_precision_base(tiny_models):
    unet = tiny_models._unet(32).to(torch.bfloat16).requires_grad_(False)
    LoraTuning(rank=2, alpha=2.0, target_modules=("to_q",)).prepare(unet, seed=0)
    assert {p.dtype for p in unet.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in unet.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_a_flow_model_trains_and_draws(train, backbones, tmp_path):
    from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

    from clif_exp.diffusion.checks import check_settings

    shutil.copytree(backbones("sd15").path, tmp_path / "flow")
    sampler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0
    )
    sampler.save_pretrained(tmp_path / "flow" / "scheduler")
    index = json.loads((tmp_path / "flow" / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "DPMSolverMultistepScheduler"]
    (tmp_path / "flow" / "model_index.json").write_text(json.dumps(index))
    spec = replace(backbones("sd15"), path=str(tmp_path / "flow"))
    out = train(
        spec=spec,
        samples={"every": 0, "num_inference_steps": 2, "guidance_scale": 2.0, "batch_size": 2},
    )
    assert len(list((out / "samples").glob("*.png"))) == 2
    with pytest.raises(
        ValueError, match=r"diffusion.min_snr_gamma: found 5.0, but the base model predicts flow"
    ):
        check_settings(spec, settings("diffusion", rank=2, min_snr_gamma=5.0))
    FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "flow" / "scheduler")
    with pytest.raises(
        ValueError, match="cannot draw with the scheduler FlowMatchEulerDiscreteScheduler"
    ):
        check_settings(spec, settings("diffusion", rank=2))


@pytest.mark.slow
def test_a_compiled_unet_learns_the_same(train, plain):
    assert usual_difference(train(compile=True), plain) < 1e-3
