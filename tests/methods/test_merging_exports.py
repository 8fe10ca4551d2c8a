"""`python -m clif_exp.merge`: exports of different runs become one, as a merge in one run does."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from clif_exp.base_models.customised import load_customised_pipeline
from clif_exp.base_models.layerwise import cross_attention_layers, save_layerwise_embeddings
from clif_exp.base_models.loading import load_pipeline
from clif_exp.base_models.unet_tuning.lora import LoraTuning, read_lora
from clif_exp.base_models.unet_tuning.targets import KEYS_AND_VALUES
from clif_exp.base_models.unet_tuning.weights import WeightTuning
from clif_exp.diffusion.prior import general_texts
from clif_exp.export.reading import load_export
from clif_exp.export.stage import export_run
from clif_exp.generate import main as generate
from clif_exp.merge import main, settings_of
from clif_exp.methods.merging import merge
from support import settings

PROMPT = "a photo of <rick> on the left and <morty> on the right"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
QUICK = ["method.merging.num_inference_steps=2"]
CASES = {
    "addition": (LoraTuning(2, 4.0, ATTENTION), []),
    "constrained": (WeightTuning(KEYS_AND_VALUES), []),
    "gradient_fusion": (LoraTuning(2, 4.0, ATTENTION), QUICK),
}


@pytest.fixture
def exported(tmp_path, curated):
    """Export every part by itself, as its own run would; return name -> folder."""

    def write(spec, parts):
        (concept, *_) = curated["concepts"].concepts
        for name, folder in parts.items():
            alone = replace(curated["concepts"], concepts=(replace(concept, name=name),))
            export_run(
                tmp_path / f"export_{name}",
                spec=spec,
                concepts=alone,
                diffusion=folder,
                config={"method": {"name": f"method_of_{name}"}},
                settings=settings("export"),
            )
        return {name: tmp_path / f"export_{name}" for name in parts}

    return write


def merged_in_one_run(tmp_path, spec, parts, *, by, overrides=()):
    out = tmp_path / "in_one_run"
    out.mkdir()
    merge(
        out,
        spec=spec,
        parts=parts,
        settings=settings_of(by, list(overrides)).method.merging,
        general_texts=general_texts,
        disjoint=False,
        device="cpu",
    )
    return load_customised_pipeline(spec, diffusion=out, device="cpu")[0]


def run(spec, exports, out, *more, by):
    base = ["--base", spec.path, "--device", "cpu"]
    return main([*map(str, exports), "--by", by, "--out", str(out), *base, *more])


def load(spec, folder):
    place = {"base": str(spec.path), "revision": None, "device": "cpu"}
    pipeline = load_export(folder, family=spec.record, **place)
    if getattr(pipeline.unet, "peft_config", None):
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    return pipeline


def weights(pipeline):
    models = {name: getattr(pipeline, name, None) for name in ("unet", "text_encoder")}
    return {
        f"{model}.{name}": value.detach()
        for model, part in models.items()
        for name, value in part.named_parameters()
    }


def assert_same_weights(merged, expected, *, base, tolerance=1e-4):
    found, wanted, before = weights(merged), weights(expected), weights(base)
    moved = 0
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance, msg=name)
        moved += value.shape != before[name].shape or (value - before[name]).abs().max() > 1e-3
    assert moved > 5


def drawn(pipeline):
    image = pipeline(
        PROMPT,
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        height=32,
        width=32,
    ).images[0]
    return (image * 255).round().astype(int)


@pytest.mark.parametrize(
    ("by", "family"),
    [("addition", "sd15"), ("addition", "sdxl"), ("constrained", "sdxl"), ("gradient_fusion", "sd15")],
)
def test_exports_merge_to_what_one_run_merges_to(
    tmp_path, spanning, customise_apart, exported, by, family
):
    spec, (tuning, overrides) = spanning(family), CASES[by]
    parts = customise_apart(spec, tuning)
    exports = exported(spec, parts)
    out = tmp_path / "merged"
    assert run(spec, exports.values(), out, *["--set"] * bool(overrides), *overrides, by=by) == 0
    expected = merged_in_one_run(tmp_path, spec, parts, by=by, overrides=overrides)
    assert_same_weights(load(spec, out), expected, base=load_pipeline(spec))
    # and the names of its files call up the same concepts
    assert np.abs(drawn(load(spec, out)) - drawn(_with_names(expected, parts))).max() <= 2
    assert sorted(file.stem for file in (out / "embeddings").iterdir()) == ["morty", "rick"]
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]


def _with_names(pipeline, parts):
    """Let a stock pipeline's prompts name concepts of two tokens, as textual inversion's do."""
    plain = type(pipeline).__call__

    class Named:
        def __call__(self, prompt, **how):
            for name in parts:
                prompt = prompt.replace(f"<{name}>", f"<{name}> <{name}>_1")
            return plain(pipeline, prompt, **how)

    return Named()
