"""Pinned results: a change of what is drawn must raise `GenerationSettings.VERSION`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from clif_exp.base_models.spec import BaseModels
from clif_exp.base_models.tokens import EMBEDDINGS_FILE, save_concept_embeddings
from clif_exp.generation.settings import GenerationSettings
from clif_exp.generation.stage import generate
from clif_exp.prompts.evaluation import EvaluationPrompt
from support import settings

# VERSION -> mean level of the images' quarters, 0 to 255. Another processor may round differently,
# so these are numbers with a tolerance, not a digest.
PINNED = {
    3: [
        *(126.712, 142.871, 136.496, 124.284),
        *(125.4, 139.081, 137.105, 135.458),
        *(139.148, 129.755, 138.201, 127.603),
        *(132.098, 131.65, 139.906, 126.276),
    ]
}
LINE = {
    "file": "images/p0-s000.png",
    "prompt_id": "p0",
    "prompt": "a photo of <rick>",
    "kind": "single",
    "layout": "free",
    "concepts": ["rick"],
    "text_for_alignment": "a photo of a man",
    "seed": 0,
}


def test_what_is_drawn_changes_only_with_the_version(tmp_path, tiny_backbone):
    spec, diffusion = BaseModels(**tiny_backbone), tmp_path / "diffusion"
    diffusion.mkdir()
    save_concept_embeddings(
        diffusion / EMBEDDINGS_FILE,
        {"text_encoder": {"rick": torch.linspace(-1, 1, 64).view(2, 32)}},
    )
    prompts = [
        EvaluationPrompt(
            f"p{number}", text, "single", "free", ("rick",), text.replace("<rick>", "a man")
        )
        for number, text in enumerate(["a photo of <rick>", "a photo of the dog and <rick>"])
    ]
    generate(
        tmp_path / "out",
        spec=spec,
        diffusion=diffusion,
        prompts=prompts,
        settings=settings(
            "generation",
            seeds=[0, 7],
            num_inference_steps=3,
            guidance_scale=2.0,
            batch_size=3,
            mixed_precision=False,
        ),
    )
    lines = [
        json.loads(line)
        for line in (tmp_path / "out" / "generations.jsonl").read_text().splitlines()
    ]
    assert lines[0].items() >= LINE.items()
    found = []
    for line in lines:
        image = np.asarray(Image.open(tmp_path / "out" / line["file"]), dtype=float)
        quarters = [part for half in np.split(image, 2) for part in np.split(half, 2, axis=1)]
        found += [round(float(part.mean()), 3) for part in quarters]
    assert found == pytest.approx(PINNED[GenerationSettings.VERSION], abs=0.1), (
        f"results have changed: raise GenerationSettings.VERSION and pin {found} for it"
    )
