"""Sampling on tiny untrained models of Stable Diffusion's classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clif_exp.base_models import customised
from clif_exp.base_models.spec import BaseModels
from clif_exp.base_models.tokens import EMBEDDINGS_FILE
from clif_exp.generation import sampling
from clif_exp.generation.stage import generate
from clif_exp.prompts.evaluation import EvaluationPrompt, in_class_words
from support import settings

PROMPTS = [
    EvaluationPrompt(
        f"p{index}", text, "single", "free", ("rick",), text.replace("<rick>", "a man")
    )
    for index, text in enumerate(
        ["a photo of <rick>", "a photo of <rick> on the beach", "a photo of the dog and <rick>"]
    )
]


def short(batch_size: int):
    return settings(
        "generation",
        seeds=[0, 1],
        num_inference_steps=3,
        guidance_scale=2.0,
        mixed_precision=False,
        batch_size=batch_size,
    )


@pytest.fixture(scope="module")
def spec(tiny_backbone):
    return BaseModels(**tiny_backbone)


@pytest.fixture(scope="module")
def diffusion(spec, tmp_path_factory):
    """A trained concept with large embeddings and a LoRA that is not zero."""
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig, get_peft_model_state_dict

    from clif_exp.base_models.loading import load_pipeline
    from clif_exp.base_models.tokens import save_concept_embeddings

    out = tmp_path_factory.mktemp("diffusion")
    pipeline = load_pipeline(spec)
    torch.manual_seed(0)
    pipeline.unet.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=["to_k", "to_v"], init_lora_weights=False)
    )
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
    StableDiffusionPipeline.save_lora_weights(out, unet_lora_layers=layers, safe_serialization=True)
    width = pipeline.text_encoder.get_input_embeddings().weight.shape[1]
    save_concept_embeddings(
        out / EMBEDDINGS_FILE, {"text_encoder": {"rick": torch.randn(2, width)}}
    )
    return out


def images(folder: Path) -> dict[str, np.ndarray]:
    return {
        file.name: np.asarray(Image.open(file)).astype(int)
        for file in sorted((folder / "images").glob("*.png"))
    }


@pytest.fixture(scope="module")
def reference(spec, diffusion, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("reference")
    generate(out, spec=spec, diffusion=diffusion, prompts=PROMPTS, settings=short(2))
    return out


def test_every_prompt_gets_an_image_per_seed_and_a_line(reference):
    lines = [
        json.loads(line) for line in (reference / "generations.jsonl").read_text().splitlines()
    ]
    assert [(line["prompt_id"], line["seed"]) for line in lines] == [
        (f"p{i}", seed) for i in range(3) for seed in (0, 1)
    ]
    assert all((reference / line["file"]).exists() for line in lines)
    assert lines[0]["text_for_alignment"] == "a photo of a man"
    assert lines[0]["concepts"] == ["rick"]
    assert len({image.tobytes() for image in images(reference).values()}) == 6


def test_batch_size_changes_nothing_beyond_rounding(reference, spec, diffusion, tmp_path):
    for batch_size in (1, 5):
        out = tmp_path / str(batch_size)
        generate(out, spec=spec, diffusion=diffusion, prompts=PROMPTS, settings=short(batch_size))
        for name, image in images(out).items():
            # fp32 sums in another order: at most one level of 255.
            assert np.abs(image - images(reference)[name]).max() <= 1, name


def test_the_order_of_the_prompts_changes_nothing(reference, spec, diffusion, tmp_path):
    generate(tmp_path, spec=spec, diffusion=diffusion, prompts=PROMPTS[::-1], settings=short(2))
    assert all(
        np.abs(image - images(reference)[name]).max() <= 1
        for name, image in images(tmp_path).items()
    )


def test_killed_and_resumed_equals_undisturbed(reference, spec, diffusion, tmp_path, monkeypatch):
    whole, calls = sampling.sample, []

    def dies_in_the_second_batch(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(sampling, "sample", dies_in_the_second_batch)
    arguments = {
        "spec": spec,
        "diffusion": diffusion,
        "prompts": PROMPTS,
        "settings": short(2),
    }
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, **arguments)
    assert len(images(tmp_path)) == 2
    assert not (tmp_path / "generations.jsonl").exists()
    # Killed between two images of one batch.
    (tmp_path / "images" / "p0-s001.png").unlink()
    kept = (tmp_path / "images" / "p0-s000.png").read_bytes()
    generate(tmp_path, **arguments)
    for file in [*(reference / "images").iterdir(), reference / "generations.jsonl"]:
        assert (tmp_path / file.relative_to(reference)).read_bytes() == file.read_bytes()
    assert (tmp_path / "images" / "p0-s000.png").read_bytes() == kept


def test_finished_images_are_not_drawn_again(reference, spec, diffusion, monkeypatch):
    monkeypatch.setattr(
        customised, "load_customised_pipeline", lambda *_, **__: pytest.fail("nothing is missing")
    )
    generate(reference, spec=spec, diffusion=diffusion, prompts=PROMPTS, settings=short(2))


def test_the_trained_weights_are_in_the_images(reference, spec, diffusion, tmp_path):
    generate(tmp_path / "base", spec=spec, diffusion=None, prompts=PROMPTS, settings=short(6))
    only_rows = tmp_path / "rows"
    only_rows.mkdir()
    (only_rows / EMBEDDINGS_FILE).write_bytes((diffusion / EMBEDDINGS_FILE).read_bytes())
    generate(
        tmp_path / "embeddings", spec=spec, diffusion=only_rows, prompts=PROMPTS, settings=short(6)
    )
    sets = [images(folder) for folder in (reference, tmp_path / "base", tmp_path / "embeddings")]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert any(np.abs(sets[first][name] - sets[second][name]).max() > 1 for name in sets[0])


def test_embeddings_alone_leave_prompts_without_a_concept_as_they_were(spec, diffusion, tmp_path):
    prior = [
        EvaluationPrompt(
            "prior",
            "a photo of the dog on the beach",
            "prior",
            "free",
            (),
            "a photo of the dog on the beach",
        )
    ]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / EMBEDDINGS_FILE).write_bytes((diffusion / EMBEDDINGS_FILE).read_bytes())
    for name, model in (("before", None), ("after", tmp_path / "rows")):
        generate(tmp_path / name, spec=spec, diffusion=model, prompts=prior, settings=short(2))
    before, after = images(tmp_path / "before"), images(tmp_path / "after")
    # The same noise before and after, so what differs in a report is what customising changed.
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_class_words_are_drawn_by_the_base_model_from_the_concepts_noise(spec, tmp_path):
    words = in_class_words(PROMPTS)
    assert [prompt.concepts for prompt in words] == [("rick",)] * 3, "judged as the concept"
    generate(tmp_path / "words", spec=spec, diffusion=None, prompts=words, settings=short(2))
    lines = [
        json.loads(line)
        for line in (tmp_path / "words" / "generations.jsonl").read_text().splitlines()
    ]
    assert lines[0]["prompt"] == lines[0]["text_for_alignment"] == "a photo of a man"
    assert [line["noise_seed"] for line in lines] == [
        sampling.noise_seed(prompt.text, seed) for prompt in PROMPTS for seed in (0, 1)
    ]
    assert "noise_text" not in PROMPTS[0].to_json(), "as fingerprints have known them"


def test_repeated_prompt_ids_are_refused_before_anything_is_written(spec, tmp_path):
    with pytest.raises(ValueError, match=r"generation.prompts: ids \['p0'\] occur more than once"):
        generate(
            tmp_path / "out",
            spec=spec,
            diffusion=None,
            prompts=[PROMPTS[0], PROMPTS[0]],
            settings=short(2),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_settings_are_refused(changes, field):
    with pytest.raises(ValueError, match=field):
        settings("generation", **changes)
