"""Counterparts: the concepts' own images, told by class words, which must stay the base's."""

from __future__ import annotations

import pytest
import torch

from clif_exp.base_models.loading import load_pipeline
from clif_exp.diffusion.batches import MixedBatches, Mixture
from clif_exp.diffusion.counterparts import by_class_words, counterparts
from clif_exp.diffusion.images import encode_training_images, training_images


def test_counterparts_are_the_same_images_told_by_class_words(curated):
    concepts = curated["concepts"]
    given = training_images(concepts, manifest=curated["manifests"]["M"], segments=None, prior=[])
    words = {concept.name: concept.class_word for concept in concepts.concepts}
    made = counterparts(given, concepts=concepts)
    assert [(image.file, image.frame) for image in made] == [(i.file, i.frame) for i in given]
    assert {(image.kind, image.subject, image.masks) for image in made} == {
        ("prior", "counterparts", ())
    }
    texts = [text for image in made for text in image.captions]
    assert not any(f"<{name}>" in text for name in words for text in texts)
    for image in made:
        for text in image.captions:
            assert any(word in text for word in words.values()), text


@pytest.mark.parametrize(
    ("caption", "told"),
    [
        ("a photo of <milo>", "a photo of a fox"),
        ("a photo of my <milo>", "a photo of my fox"),
        ("the photo of the cool <milo>", "the photo of the cool fox"),
        ("<ada> behind <milo> at night", "an alien behind a fox at night"),
        ("<milo> beside <nobody>", "a fox beside <nobody>"),
    ],
)
def test_a_class_word_takes_an_article_where_its_place_has_none(caption, told):
    assert by_class_words(caption, {"milo": "fox", "ada": "alien"}) == told


def test_every_other_prior_image_is_a_counterpart_with_the_latents_of_its_original(
    backbones, curated, prior_images
):
    pipeline = load_pipeline(backbones("sd15"))
    images = training_images(
        curated["concepts"], manifest=None, segments=None, prior=[prior_images]
    )
    images += counterparts(images, concepts=curated["concepts"])
    latents = encode_training_images(pipeline.vae, images, resolution=32, flip=True)
    singles = [i for i, image in enumerate(images) if image.kind == "single"]
    same = [i for i, image in enumerate(images) if image.subject == "counterparts"]
    assert len(latents) == 2 * len(images)
    assert torch.equal(latents[singles], latents[same])
    alone = encode_training_images(pipeline.vae, images[-1:], resolution=32, flip=True)
    torch.testing.assert_close(latents[[len(images) - 1, -1]], alone)
    captions = ["", *dict.fromkeys(text for image in images for text in image.captions)]
    batches = MixedBatches(
        images,
        latents,
        None,
        Mixture(batch_size=8, pair_share=0.0, prior_share=0.5, seed=1),
        num_timesteps=1000,
        captions=captions,
    )
    drawn = latents[[i for i, image in enumerate(images) if image.subject == ""]]
    own = latents[same]
    counts = {"drawn": 0, "own": 0}
    for step in range(100):
        batch = batches(step)
        for latent in batch["latents"][batch["prior"]]:
            counts["drawn"] += bool((latent == drawn).flatten(1).all(1).any())
            counts["own"] += bool((latent == own).flatten(1).all(1).any())
    assert sum(counts.values()) == 400
    assert 160 < counts["own"] < 240
