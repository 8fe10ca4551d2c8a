"""Exports that `python -m clif_exp.merge` refuses, each in one line, before anything is written."""

from __future__ import annotations

import re

import torch
from safetensors.torch import save_file

from clif_exp.base_models.unet_tuning.lora import LoraTuning
from clif_exp.base_models.unet_tuning.targets import KEYS_AND_VALUES
from clif_exp.base_models.unet_tuning.weights import WeightTuning
from clif_exp.merge import main

LORA = LoraTuning(2, 4.0, ("to_q", "to_k", "to_v", "to_out.0"))


def run(spec, exports, out, *more, by):
    base = ["--base", spec.path, "--device", "cpu"]
    return main([*map(str, exports), "--by", by, "--out", str(out), *base, *more])


def refused(capsys, spec, exports, out, *more, by="addition"):
    """Run a merge that is refused; return its one line."""
    before = out.exists()
    capsys.readouterr()  # what saving the models has said
    assert run(spec, exports, out, *more, by=by) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert out.exists() == before
    return error


def test_what_cannot_be_merged_is_refused_in_one_line(
    tmp_path, spanning, customise_apart, exported, capsys
):
    spec = spanning("sd15")
    parts = customise_apart(spec, LORA)
    parts |= customise_apart(spec, WeightTuning(KEYS_AND_VALUES), names=("beth", "summer"))
    made = exported(spec, parts)
    two = [made["rick"], made["morty"]]
    out = tmp_path / "out"

    def say(exports, *more, by="addition"):
        return refused(capsys, spec, exports, out, *more, by=by)

    assert "found 1 export" in say(two[:1])
    assert "nowhere is not an export" in say([made["rick"], tmp_path / "nowhere"])
    twice = say([made["rick"], made["rick"]])
    assert f"'rick' is a concept of {made['rick']} and of" in twice
    assert "--name-of rick=rick_2" in twice
    assert "no export has a concept 'jerry': rick, morty" in say(two, "--name-of", "jerry=x")
    assert "name-of: found 'rick=R 2'" in say(two, "--name-of", "rick=R 2")
    assert "device: found 'tpu'" in say(two, "--device", "tpu")
    assert "set: found 'seed=1'" in say(two, "--set", "seed=1")
    assert "method.merging.captions: no such key" in say(two, "--set", "method.merging.captions=2")
    assert "export.lora_rank: found 0" in say(two, "--set", "export.lora_rank=0")
    assert "holds a LoRA, --by constrained merges whole weights" in say(two, by="constrained")
    assert "holds whole weights of the U-Net, --by addition merges a LoRA or embeddings" in say(
        [made["rick"], made["beth"]]
    )
    keys = [made["beth"], made["summer"]]
    few = say(keys, "--set", "method.merging.captions=1", by="constrained")
    needed = re.search(r"captions: found 1, whose .* the text is 32 wide .* Use (\d+)\.", few)
    assert int(needed[1]) > 1
    many = say(keys, "--set", "method.merging.captions=99999", by="constrained")
    assert "captions: found 99999, but there are" in many

    out.mkdir()
    (out / "mine.txt").touch()
    assert f"out: {out} is there and not empty" in say(two)


def test_exports_of_other_base_models_are_refused(
    tmp_path, spanning, backbones, customise_apart, exported, capsys
):
    spec, other = spanning("sd15"), backbones("sd15")
    made = exported(spec, customise_apart(spec, LORA, names=("rick",)))
    made |= exported(other, customise_apart(other, LORA, names=("morty",)))
    sdxl = backbones("sdxl")
    made |= exported(sdxl, customise_apart(sdxl, LORA, names=("beth",)))
    out = tmp_path / "out"
    error = refused(capsys, spec, [made["rick"], made["beth"]], out)
    assert f"{made['rick']} on <your sd15 folder> (weights " in error
    assert f"{made['beth']} on <your sdxl folder> (weights " in error
    error = refused(capsys, spec, [made["rick"], made["morty"]], out)
    assert "exports of different base models" in error
    third = tmp_path / "third"
    made["rick"].rename(third)
    error = refused(capsys, other, [third, made["rick"].parent / "export_rick_2"], out)
    assert "is not an export" in error


def test_text_encoders_and_mixed_embeddings_are_refused(
    tmp_path, spanning, customise_apart, add_text_lora, exported, capsys
):
    spec = spanning("sd15")
    parts = customise_apart(spec, LORA)
    add_text_lora({"morty": parts["morty"]}, spec)
    made = exported(spec, parts)
    out = tmp_path / "out"
    error = refused(capsys, spec, made.values(), out)
    assert f"{made['morty']} holds weights of text_encoder that were trained" in error
    assert "Use --by gradient_fusion" in error
    save_file(
        {"text_encoder.rick": torch.ones(2, 2, 32)},
        made["rick"] / "layerwise_embeddings.safetensors",
    )
    error = refused(capsys, spec, made.values(), out, by="gradient_fusion")
    assert f"{made['rick']} has embeddings per layer, {made['morty']} the same" in error


def test_the_base_model_must_be_the_one_that_was_customised(
    tmp_path, spanning, backbones, customise_apart, exported, capsys
):
    spec = spanning("sd15")
    made = exported(spec, customise_apart(spec, LORA))
    error = refused(capsys, backbones("sd15"), made.values(), tmp_path / "out")
    assert f"but {made['rick']} was trained on others" in error
    assert main([*map(str, made.values()), "--by", "addition", "--out", str(tmp_path / "out")]) == 2
    assert "Name it with --base" in capsys.readouterr().err


def test_weights_that_only_reading_shows_are_refused_by_the_exports_name(
    tmp_path, spanning, customise_apart, exported, capsys
):
    spec = spanning("sd15")
    made = exported(spec, customise_apart(spec, WeightTuning(None)))
    error = refused(capsys, spec, made.values(), tmp_path / "out", by="gradient_fusion")
    assert f"{made['rick']}: has changed" in error
    assert "linear layers and convolutions only" in error
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]
