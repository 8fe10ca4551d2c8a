"""What stage 2 publishes, written without training."""

from __future__ import annotations

import pytest
import torch

from clif_exp.base_models.loading import load_pipeline, text_encoders_of
from clif_exp.base_models.text_tuning import (
    TextTuning,
    make_trainable,
    read_text_lora,
    save_text_tuning,
    tower,
    tuned_state,
)
from clif_exp.base_models.tokens import EMBEDDINGS_FILE, save_concept_embeddings
from clif_exp.base_models.unet_tuning.lora import LoraTuning
from clif_exp.base_models.unet_tuning.registry import save_unet_tuning
from clif_exp.base_models.unet_tuning.weights import WeightTuning
from clif_exp.export.stage import export_run
from support import SAMPLING, settings

# Endings of the layers whose own weights train; None: all weights.
WEIGHTS = {"weights": None, "attention": ("to_k", "to_q"), "keys": ("attn2.to_k", "attn2.to_v")}
TRAINED = (1_000_000.0, 1_000_060.5)


def _change(weights, *, scale):
    """Change weights at random, by about as much as they are, norms and biases less."""
    generator = torch.Generator().manual_seed(0)
    for weight in weights:
        noise = torch.randn(weight.shape, generator=generator)
        size = weight.data.std() if weight.ndim > 1 else torch.tensor(0.02)
        weight.data += scale * size * noise


@pytest.fixture
def published(tmp_path, backbones):
    """Write a folder of stage 2; what trains in the text encoders is `train`, in the U-Net `unet`.

    The U-Net's LoRA has rank 2 and alpha 4, the text encoders' rank 3 and alpha 6; `unet` is else a
    key of `WEIGHTS`.
    """

    def write(family, *, train="frozen", targets=("q_proj", "v_proj"), scale=0.5, unet="lora"):
        folder = tmp_path / f"diffusion_{family}_{scale}_{unet}_{train}"
        folder.mkdir()
        pipeline = load_pipeline(backbones(family))
        lora = LoraTuning(rank=2, alpha=4.0, target_modules=("to_k", "to_q"))
        tuning = lora if unet == "lora" else WeightTuning(WEIGHTS[unet])
        weights = tuning.prepare(pipeline.unet, seed=0)
        if unet != "lora":
            _change(weights, scale=scale)
            weights = []
        text = TextTuning(train, 0.1, rank=3, alpha=6.0, target_modules=targets)
        states = {}
        for name, (_, encoder) in text_encoders_of(pipeline).items():
            weights += make_trainable(tower(encoder), tuning=text, seed=0)
            for parameter in weights:
                parameter.data += scale
            states[name] = tuned_state(tower(encoder), tuning=text)
        save_text_tuning(folder, states, tuning=text)
        save_unet_tuning(
            folder,
            unet=pipeline.unet,
            tuning=tuning,
            pipeline_class=type(pipeline),
            text_lora=read_text_lora(folder),
        )
        embeddings = {"rick": torch.ones(2, 32), "morty": -torch.ones(2, 32)}
        save_concept_embeddings(
            folder / EMBEDDINGS_FILE, dict.fromkeys(text_encoders_of(pipeline), embeddings)
        )
        return folder

    return write


@pytest.fixture
def export(tmp_path, backbones, curated, published):
    """Export what `published` writes: `export("sdxl", train="lora")`."""

    def make(family, *, out="export", concepts=None, diffusion=None, spec=None, rank=8, **how):
        export_run(
            tmp_path / out,
            spec=spec or backbones(family),
            concepts=concepts or curated["concepts"],
            diffusion=diffusion or published(family, **how),
            config={"diffusion": {"rank": 2}},
            sampling=SAMPLING,
            settings=settings("export", lora_rank=rank),
            trained=TRAINED,
        )
        return tmp_path / out

    return make
