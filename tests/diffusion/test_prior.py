"""Prior preservation: general prompts, their images in training, and the base as a teacher."""

from __future__ import annotations

import csv

import pytest
import torch

from clif_exp.base_models.loading import encode_images, load_pipeline
from clif_exp.base_models.tokens import NewTokens
from clif_exp.base_models.unet_tuning.registry import load_unet_tuning
from clif_exp.concepts.concept import ConceptSet
from clif_exp.diffusion.concept_tokens import insert_concepts
from clif_exp.diffusion.images import load_pixels, training_images
from clif_exp.diffusion.prior import general_prompts
from clif_exp.diffusion.stage import _prepare, train_diffusion
from clif_exp.diffusion.targets import noise_schedule
from clif_exp.prompts.worlds import WORLDS
from support import default_config, settings

FP32 = settings("trainer", precision="32-true")
SHORT = {
    "batch_size": 4,
    "rank": 2,
    "learning_rate": 0.01,
    "warmup_steps": 0,
    "schedule": "constant",
    "validation": None,
    "samples": None,
}


def prompts(world, images=256, seed=0):
    return general_prompts(world, count=images, seed=seed)


@pytest.mark.parametrize("world", list(WORLDS))
def test_general_prompts_differ_and_show_nothing_that_is_judged(world):
    found = prompts(world)
    texts = [prompt.text for prompt in found]
    assert len(set(texts)) == len({prompt.id for prompt in found}) == 256
    assert {(prompt.kind, prompt.concepts, prompt.split) for prompt in found} == {
        ("prior", (), "training")
    }
    for split in ("tuning", "reporting"):
        for phrase, _ in WORLDS[world].figures[split]:
            assert not [text for text in texts if phrase in text]
    assert [prompt.text for prompt in prompts(world, images=10)] == texts[:10]
    assert {prompt.text for prompt in prompts(world, seed=1)} != set(texts)


def test_general_prompts_of_toonworld_are_its_captions_of_one_figure_and_of_two():
    from clif_exp.toonworld.grammar import PLACE_PHRASES, VOCABULARY
    from clif_exp.toonworld.world import CAST_ONLY, SPECIES

    texts = [prompt.text for prompt in prompts("toonworld")]
    words = {word.rstrip(",") for text in texts for word in text.split()}
    assert words <= set(VOCABULARY)
    unseen = {value for values in CAST_ONLY.values() for value in values}
    assert not [text for text in texts if any(value in text for value in unseen)]
    for place in PLACE_PHRASES.values():
        assert any(text.endswith(place) for text in texts), place
    for relation in (" hugging ", " behind ", " riding ", " next to ", "on the left and "):
        assert any(relation in text for text in texts), relation
    nouns = {*SPECIES, "person", "animal"}
    counts = [sum(word.rstrip(",") in nouns for word in text.split()) for text in texts]
    assert counts == [1, 2] * 128


def test_more_general_prompts_than_there_are_are_refused_before_anything_is_built(backbones):
    from clif_exp.diffusion.checks import check_settings

    many = {"prior": settings("diffusion.prior", images=2000).model_dump()}
    fitting = {"target_modules": ["to_k"], "rank": 2}
    spec = backbones("sd15")
    check_settings(spec, settings("diffusion", **fitting, **many, prior_share=0.0))
    with pytest.raises(ValueError, match=r"diffusion\.prior\.images: found 2000, but there are"):
        check_settings(spec, settings("diffusion", **fitting, **many, prior_share=0.5))


def test_a_teacher_without_anything_to_teach_is_refused():
    frozen = ["diffusion.unet=frozen", "diffusion.prior_target=teacher"]
    with pytest.raises(ValueError, match=r"diffusion\.prior_target: .* diffusion\.prior_share=0"):
        default_config(*frozen, "diffusion.prior_share=0.4")
    default_config(*frozen, "diffusion.prior_share=0.0")  # where nothing is taught anyway


@pytest.fixture(params=["sd15", "sd21", "sdxl"])
def taught(request, backbones, curated, prior_images):
    """A module whose teacher is the base, before its first step; and its batches."""
    spec = backbones(request.param)
    pipeline = load_pipeline(spec)
    trains_embeddings = request.param == "sdxl"
    chosen = settings(
        "diffusion",
        **SHORT
        | {
            "steps": 1,
            "prior_share": 0.5,
            "prior_target": "teacher",
            "pair_share": 0.0,
            "train_embeddings": trains_embeddings,
        },
    )
    return _prepare(
        pipeline,
        training_images(curated["concepts"], manifest=None, segments=None, prior=[prior_images]),
        spec=spec,
        token_ids=insert_concepts(
            pipeline, curated["concepts"], embeddings=None, tokens=NewTokens(2), world="generic"
        ),
        stage_1=False,
        tuning=chosen.unet_tuning(),
        trainer=FP32,
        seed=0,
        settings=chosen,
    )


def test_an_untrained_lora_has_nothing_to_learn_from_the_teacher(taught):
    module, batches = taught
    batch = batches(0)
    assert batch["prior"].sum() == 2
    error = module.per_image_loss(batch)
    assert error[batch["prior"]].max() < 1e-9
    assert error[~batch["prior"]].min() > 0.01
    assert torch.equal(batch["noise"], batches(0)["noise"]), "the batch is left as it is"


def test_the_teacher_is_the_unet_without_the_lora(taught):
    module, batches = taught
    trained = [parameter for parameter in module.unet.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.fill_(0.1)
    batch = batches(0)
    error = module.per_image_loss(batch)
    assert all(parameter.requires_grad for parameter in trained), "they go on training"
    error.mean().backward()
    assert all(parameter.grad is not None for parameter in trained)
    noisy = module.schedule.add_noise(batch["latents"], batch["noise"], batch["timesteps"])
    arguments = module.text.unet_arguments(module.encode(batch["caption_indices"]))
    with torch.no_grad():
        now = module.unet(noisy, batch["timesteps"], **arguments).sample
        with module.teacher.switched_off(module.unet):
            base = module.unet(noisy, batch["timesteps"], **arguments).sample
    target = module.schedule.target(batch["latents"], batch["noise"], batch["timesteps"])
    target = torch.where(batch["prior"].view(-1, 1, 1, 1), base, target)
    torch.testing.assert_close(error, ((now - target) ** 2).mean(dim=(1, 2, 3)))
    assert error[batch["prior"]].min() > 1e-6


def test_with_a_teacher_the_base_stays_itself(tmp_path, backbones, curated, prior_images):
    moved = {}
    for name, share, target in (
        ("without", 0.0, "images"),
        ("images", 0.75, "images"),
        ("teacher", 0.75, "teacher"),
    ):
        out = tmp_path / name
        out.mkdir()
        train_diffusion(
            out,
            spec=backbones("sd15"),
            concepts=curated["concepts"],
            manifest=None,
            segments=None,
            embeddings=None,
            trainer=FP32,
            seed=0,
            settings=settings(
                "diffusion",
                **SHORT
                | {
                    "steps": 30,
                    "learning_rate": 3e-3,
                    "train_embeddings": False,
                    "pair_share": 0.0,
                    "prior_share": share,
                    "prior_target": target,
                },
            ),
            prior=[prior_images] if share else (),
        )
        moved[name] = distance(backbones("sd15"), out, prior=prior_images)
    assert moved["teacher"] < 0.8 * min(moved["without"], moved["images"]), moved


def test_prior_images_weigh_what_is_asked(tmp_path, backbones, curated, prior_images):
    losses = []
    for weight in (1.0, 2.0, 3.0):
        out = tmp_path / str(weight)
        out.mkdir()
        train_diffusion(
            out,
            spec=backbones("sd15"),
            concepts=curated["concepts"],
            manifest=None,
            segments=None,
            embeddings=None,
            trainer=FP32,
            seed=0,
            settings=settings(
                "diffusion",
                **SHORT
                | {
                    "steps": 1,
                    "pair_share": 0.0,
                    "prior_share": 0.5,
                    "prior_target": "images",
                    "prior_loss_weight": weight,
                },
            ),
            prior=[prior_images],
        )
        with (out / "metrics.csv").open(newline="") as stream:
            losses.append([float(row["loss"]) for row in csv.DictReader(stream) if row["loss"]][-1])
    prior = losses[1] - losses[0]  # their half of the mean
    assert 0.2 * losses[0] < prior < 0.8 * losses[0]
    assert losses[2] - losses[1] == pytest.approx(prior, rel=1e-4)


def distance(spec, folder, *, prior) -> float:
    """Return how far a trained LoRA moves the base's predictions of noised prior images."""
    pipeline, base = load_pipeline(spec), load_pipeline(spec)
    load_unet_tuning(pipeline, folder)
    none = ConceptSet(name="none", root=prior, concepts=())
    images = training_images(none, manifest=None, segments=None, prior=[prior])
    ids = pipeline.tokenizer(
        [image.captions[0] for image in images], padding="max_length", return_tensors="pt"
    ).input_ids
    times = torch.tensor([200, 400, 600, 800])
    with torch.no_grad():
        hidden = base.text_encoder(ids).last_hidden_state
        latents = encode_images(
            base.vae, torch.stack([load_pixels(image, resolution=32) for image in images])
        )
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        noisy = noise_schedule(base.scheduler).add_noise(latents, noise, times)
        on, off = (
            unet(noisy, times, encoder_hidden_states=hidden).sample
            for unet in (pipeline.unet, base.unet)
        )
    return float((on - off).norm())
