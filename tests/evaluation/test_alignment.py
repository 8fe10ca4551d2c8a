"""Alignment: the formula, the references, and which models may judge."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from clif_exp.evaluation.alignment import (
    EmbeddedBatch,
    Judge,
    check_independent,
    image_alignment,
    image_alignment_dino,
    text_alignment,
    text_cosine,
)


def unit(*angles: float) -> torch.Tensor:
    """Vectors on the unit circle at angles in degrees."""
    return torch.tensor(
        [
            [torch.cos(torch.tensor(a).deg2rad()), torch.sin(torch.tensor(a).deg2rad())]
            for a in angles
        ]
    )


def test_text_alignment_is_two_and_a_half_times_the_cosine_cut_at_zero():
    batch = EmbeddedBatch(unit(0, 0, 0), unit(0, 60, 120), named=[[], [], []], references={})
    assert text_alignment(batch) == pytest.approx([2.5, 1.25, 0.0], abs=1e-6)
    assert text_cosine(batch) == pytest.approx([1.0, 0.5, -0.5], abs=1e-6)


def test_text_alignment_is_the_clip_score_of_torchmetrics(tmp_path):
    """torchmetrics reports 100 * max(cosine, 0); Custom Diffusion 2.5 * max(cosine, 0)."""
    from torchmetrics.functional.multimodal import clip_score

    import tiny_models

    parts = tiny_models.write_tiny_backbone(tmp_path, family="sd15")
    judge = Judge(parts["contrastive"]["text_encoder"])

    class Model:
        """The judge's CLIP as torchmetrics 1.9 expects it; transformers 5 wraps the features."""

        config, device = judge.clip.config, judge.clip.device

        def get_image_features(self, pixels_BCHW):
            return judge.clip.get_image_features(pixel_values=pixels_BCHW).pooler_output

        def get_text_features(self, tokens_BL, mask_BL):
            return judge.clip.get_text_features(tokens_BL, mask_BL).pooler_output

        def to(self, _device):
            return self

    def processor(text=None, images=None, **options):
        if text is not None:
            return judge.tokenizer(text, **options)
        return judge.processor(images=images, return_tensors="pt")

    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (6, 3, 40, 40), generator=generator, dtype=torch.uint8)
    texts = ["a cat", "a photo of a man", "the hat", "a dog on the left", "a chef", "one woman"]
    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    ours = text_alignment(
        EmbeddedBatch(
            judge.embed_images(images), judge.embed_texts(texts), named=[[]] * 6, references={}
        )
    )
    with torch.inference_mode():
        theirs = [
            float(clip_score(image, text, model_name_or_path=lambda: (Model(), processor)))
            for image, text in zip(pixels, texts, strict=True)
        ]
    assert max(theirs) > 0
    assert ours == pytest.approx([2.5 * score / 100 for score in theirs], abs=1e-5)


@pytest.mark.parametrize("tower", ["clip", "dino"])
def test_image_alignment_is_the_mean_over_generated_and_reference_pairs(tower):
    image, named = unit(0, 0, 0), [["a"], ["a", "b"], []]
    references = {"a": unit(0, 60), "b": unit(90), "unused": unit(0)}
    other = {"a": unit(10), "b": unit(20)}
    if tower == "clip":
        scores = image_alignment(EmbeddedBatch(image, image, named, references))
    else:
        batch = EmbeddedBatch(
            unit(9, 9, 9), image, named, other, dino_NE=image, dino_references=references
        )
        scores = image_alignment_dino(batch)
    assert scores[0] == pytest.approx(0.75)
    assert scores[1] == pytest.approx((0.75 + 0) / 2, abs=1e-6)
    assert scores[2] is None


def test_without_a_dino_nothing_is_measured_by_it():
    assert image_alignment_dino(EmbeddedBatch(unit(0), unit(0), [["a"]], {"a": unit(0)})) is None


def test_the_clip_that_stage_1_trains_against_may_not_judge(tmp_path):
    (tmp_path / "clip").mkdir()
    check_independent(tmp_path / "other", {"text_encoder": str(tmp_path / "clip")})
    for path in (tmp_path / "clip", tmp_path / "x" / ".." / "clip"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=r"evaluation\.judge\.path"):
            check_independent(path, {"text_encoder": str(tmp_path / "clip")})
