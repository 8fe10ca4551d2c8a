"""Embeddings per layer (Mix-of-Show): exported, told to be unread by stock tools, drawn with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clif_exp.base_models.customised import load_customised_pipeline
from clif_exp.base_models.layerwise import LAYERWISE_FILE, load_layerwise_embeddings
from clif_exp.diffusion.stage import train_diffusion
from clif_exp.export.embeddings import stock_embeddings
from clif_exp.export.reading import load_export
from clif_exp.export.stage import export_run
from clif_exp.generation.guidance.applying import side_by_side
from clif_exp.generation.sampling import sample
from support import SAMPLING, settings


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_our_own_loader_draws_what_the_run_drew(tmp_path, backbones, curated, family):
    spec = backbones(family)
    trained = tmp_path / "diffusion"
    train_diffusion(
        trained,
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
            layerwise=True,
            train_embeddings=True,
            initial_words="noise_and_class_word",
            embedding_learning_rate=0.05,
            steps=2,
            batch_size=2,
            rank=2,
            prior_share=0.0,
            validation=None,
            samples={
                "every": 0,
                "num_inference_steps": 2,
                "guidance_scale": 2.0,
                "batch_size": 4,
            },
        ),
    )
    assert len(list((trained / "samples").glob("*.png"))) == 2, "drawn while it trains, too"
    layers = load_layerwise_embeddings(trained)["text_encoder"]
    assert all(rows.ndim == 3 and not torch.equal(rows[0], rows[-1]) for rows in layers.values())
    for name, vectors in stock_embeddings(trained)["text_encoder"].items():
        assert torch.equal(vectors, layers[name].mean(dim=0))

    out = tmp_path / "export"
    export_run(
        out,
        spec=spec,
        concepts=curated["concepts"],
        diffusion=trained,
        config={"method": {"name": "mix_of_show"}},
        sampling=SAMPLING,
        settings=settings("export"),
    )
    card = (out / "README.md").read_text()
    assert "No stock tool reads all of this**: embeddings of each cross-attention layer" in card
    assert "method `mix_of_show`" in card
    assert (out / LAYERWISE_FILE).is_file()

    ours, num_tokens = load_customised_pipeline(spec, diffusion=trained, device="cpu")
    exported = load_export(
        out, base=str(spec.path), revision=None, family=spec.record, device="cpu"
    )
    first, second = curated["concepts"].names[:2]

    def draw(pipeline, prompt):
        how = {"num_inference_steps": 2, "guidance_scale": 2.0, "mixed_precision": False}
        return sample(pipeline, [prompt], noise_seeds=[0], **how)[0].astype(int)

    drawn = [draw(pipeline, f"a photo of <{first}>") for pipeline in (ours, exported)]
    assert np.abs(drawn[0] - drawn[1]).max() <= 1

    pair = f"<{first}> hugging <{second}>"
    with side_by_side(ours, [pair], num_tokens=num_tokens, weight=1.0):
        apart = draw(ours, pair)
    assert (apart != draw(ours, pair)).any(), "each layer's own embeddings are read in each part"
