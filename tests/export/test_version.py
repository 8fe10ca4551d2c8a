"""Pinned results: a change of what is exported must raise `ExportSettings.VERSION`."""

from __future__ import annotations

import hashlib
import json
import re

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import safe_open

from clif_exp.base_models.tokens import EMBEDDINGS_FILE, save_concept_embeddings
from clif_exp.base_models.unet_tuning.registry import save_unet_tuning
from clif_exp.export.settings import ExportSettings
from clif_exp.export.stage import export_run
from support import SAMPLING, settings

PINNED = {8: "783d4f645c881fee"}
# They depend on how this machine packs images, and draws the tiny models' weights.
UNPINNED = r"fingerprint `\w+`|weights: \S+"
LORA = {"r": 2, "lora_alpha": 4.0, "target_modules": ["q_proj"], "peft_type": "LORA"}


def described(folder) -> list[str]:
    """Name and content of every file; of tensors their names, shapes, rounded values and header."""
    lines = []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                lines.append(f"{name} {json.dumps(opened.metadata(), sort_keys=True)}")
                for key in sorted(opened.keys()):
                    tensor = opened.get_tensor(key)
                    values = [round(value, 4) for value in tensor.float().flatten().tolist()]
                    lines.append(f"{name} {key} {list(tensor.shape)} {values}")
        elif file.is_file():
            lines.append(f"{name} " + re.sub(UNPINNED, "", file.read_text()))
    return lines


def test_what_is_exported_changes_only_with_the_version(tmp_path, backbones, curated):
    numbers = torch.arange(-64, 64) / 64  # exact, as files are named after their bits
    (tmp_path / "diffusion").mkdir()
    encoders = {"text_encoder": 1.0, "text_encoder_2": 2.0}
    save_concept_embeddings(
        tmp_path / "diffusion" / EMBEDDINGS_FILE,
        {
            encoder: {"rick": scale * numbers.view(4, 32), "morty": -scale * numbers.view(4, 32)}
            for encoder, scale in encoders.items()
        },
    )
    layer = "text_model.encoder.layers.0.self_attn.q_proj"
    save_unet_tuning(
        tmp_path / "diffusion",
        unet=None,
        tuning=None,
        pipeline_class=StableDiffusionXLPipeline,
        text_lora={
            encoder: (
                {
                    f"{layer}.lora_A.weight": scale * numbers[:64].view(2, 32),
                    f"{layer}.lora_B.weight": scale * numbers[64:].view(32, 2),
                },
                LORA,
            )
            for encoder, scale in encoders.items()
        },
    )
    export_run(
        tmp_path / "out",
        spec=backbones("sdxl"),
        concepts=curated["concepts"],
        diffusion=tmp_path / "diffusion",
        config={"diffusion": {"rank": 2}},
        sampling=SAMPLING,
        settings=settings("export"),
        regional=0.5,
    )
    lines = described(tmp_path / "out")
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert digest == PINNED[ExportSettings.VERSION], (
        f"results have changed: raise ExportSettings.VERSION and pin {digest!r} for it"
    )
