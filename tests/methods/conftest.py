"""Tiny models whose text features span their width, and concepts that were customised apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clif_exp.base_models.loading import load_pipeline, text_encoders_of
from clif_exp.base_models.text_tuning import tower
from clif_exp.base_models.tokens import EMBEDDINGS_FILE, save_concept_embeddings
from clif_exp.base_models.unet_tuning.lora import read_lora
from clif_exp.base_models.unet_tuning.registry import save_unet_tuning
from clif_exp.export.stage import export_run
from support import SAMPLING, settings
from tiny_models import WORDS

TEXT = ("q_proj", "k_proj", "v_proj", "out_proj")


@pytest.fixture(scope="session")
def spanning(backbones, tmp_path_factory):
    """family -> spec of a tiny model whose last norms have a bias, as trained ones have.

    Without it, features lie in a plane through the origin and cannot span their width.
    """
    written = {}

    def get(family):
        if family not in written:
            folder = tmp_path_factory.mktemp(family) / "pipeline"
            pipeline = load_pipeline(backbones(family))
            generator = torch.Generator().manual_seed(0)
            for _, encoder in text_encoders_of(pipeline).values():
                bias = tower(encoder).final_layer_norm.bias
                bias.data.normal_(generator=generator)
            pipeline.save_pretrained(folder)
            written[family] = replace(backbones(family), path=str(folder))
        return written[family]

    return get


@pytest.fixture
def captions():
    """Enough of them that their tokens span 64 dimensions."""
    generator = torch.Generator().manual_seed(0)
    words = [WORDS[i] for i in torch.randint(len(WORDS), (400,), generator=generator)]
    return [" ".join(words[i : i + 5]) for i in range(0, len(words), 5)]


@pytest.fixture
def customise_apart(tmp_path):
    """Publish one folder per concept: random embeddings, and weights moved from the base's."""

    def publish(spec, tuning, *, names=("rick", "morty"), size=0.1):
        parts: dict[str, Path] = {}
        for seed, name in enumerate(names):
            generator = torch.Generator().manual_seed(seed)
            pipeline = load_pipeline(spec)
            trained = tuning.prepare(pipeline.unet, seed=seed)
            with torch.no_grad():
                for parameter in trained:
                    parameter += size * torch.randn(parameter.shape, generator=generator)
            parts[name] = tmp_path / name
            parts[name].mkdir()
            save_unet_tuning(
                parts[name],
                unet=pipeline.unet,
                tuning=tuning,
                pipeline_class=type(pipeline),
                text_lora={},
            )
            embeddings = {
                encoder: {name: torch.randn(2, 32, generator=generator)}
                for encoder in text_encoders_of(pipeline)
            }
            save_concept_embeddings(parts[name] / EMBEDDINGS_FILE, embeddings)
        return parts

    return publish


@pytest.fixture
def add_text_lora():
    """Give every part a LoRA of a text encoder, as a stage publishes it with the U-Net's."""

    def add(parts, spec, *, encoder="text_encoder"):
        pipeline = load_pipeline(spec)
        for seed, folder in enumerate(parts.values()):
            generator = torch.Generator().manual_seed(seed)
            lora = {
                f"text_model.encoder.layers.{layer}.self_attn.{name}.lora_{matrix}.weight": 0.3
                * torch.randn(shape, generator=generator)
                for layer in range(3 if encoder == "text_encoder_2" else 2)
                for name in TEXT
                for matrix, shape in (("A", (2, 32)), ("B", (32, 2)))
            }
            settings = {
                "r": 2,
                "lora_alpha": 2.0,
                "target_modules": list(TEXT),
                "peft_type": "LORA",
            }
            unet, metadata = read_lora(folder / "pytorch_lora_weights.safetensors")
            type(pipeline).save_lora_weights(
                folder,
                unet_lora_layers={k.removeprefix("unet."): v for k, v in unet.items()},
                unet_lora_adapter_metadata={
                    k.removeprefix("unet."): v for k, v in metadata.items()
                },
                **{
                    f"{encoder}_lora_layers": lora,
                    f"{encoder}_lora_adapter_metadata": settings,
                },
            )

    return add


@pytest.fixture
def exported(tmp_path, curated):
    """Export every part by itself, as its own run would; return name -> folder."""

    def write(spec, parts, *, regional=None):
        regional = regional or {}
        (concept, *_) = curated["concepts"].concepts
        for name, folder in parts.items():
            alone = replace(curated["concepts"], concepts=(replace(concept, name=name),))
            export_run(
                tmp_path / f"export_{name}",
                spec=spec,
                concepts=alone,
                diffusion=folder,
                config={"method": {"name": f"method_of_{name}"}},
                sampling=SAMPLING,
                settings=settings("export"),
                regional=regional.get(name),
            )
        return {name: tmp_path / f"export_{name}" for name in parts}

    return write
