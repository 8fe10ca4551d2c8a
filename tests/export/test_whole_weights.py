"""Exports of U-Nets whose own weights were trained: all of them, or some layers' matrices."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from clif_exp.base_models.customised import load_customised_pipeline
from clif_exp.base_models.loading import load_pipeline
from clif_exp.base_models.unet_tuning import registry
from clif_exp.base_models.unet_tuning.exported import Exported
from clif_exp.base_models.unet_tuning.weights import FILE
from clif_exp.generate import draw
from clif_exp.generation.sampling import sample
from support import web_lora

PROMPT = "a photo of <rick> on the left and <morty> on the right"
HOW = {"num_inference_steps": 3, "guidance_scale": 3.0}
CUSTOM_DIFFUSION = "pytorch_custom_diffusion_weights.safetensors"
# A Python that does not know this package runs READMEs' snippets, each in its export's folder, and
# draws with what they made. One for all, as its start takes longer than they do.
WITHOUT_US = f"""
import os, sys
sys.modules["clif_exp"] = None
import numpy, torch
for folder in sys.argv[1:]:
    os.chdir(folder)
    exec(compile(open("snippet.py").read(), folder, "exec"))
    how = dict({HOW}, generator=torch.Generator().manual_seed(0), output_type="np")
    numpy.save("drawn.npy", pipe({PROMPT!r}, **how).images[0])
"""
CASES = [
    *(
        (family, unet, "frozen")
        for family in ("sd15", "sd21", "sdxl")
        for unet in ("weights", "keys")
    ),
    *(("sd15", unet, "lora") for unet in ("weights", "keys")),
]


def drawn_by(pipeline) -> np.ndarray:
    """The image of seed 0 by our own sampling, 0 to 255."""
    drawn = sample(pipeline, [PROMPT], noise_seeds=[0], mixed_precision=False, **HOW)
    return drawn[0].astype(int)


def ours(spec, diffusion) -> np.ndarray:
    return drawn_by(load_customised_pipeline(spec, diffusion=diffusion, device="cpu")[0])


def write_snippet(folder, spec) -> None:
    """Write the README's Python, with the base model's folder in it."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    (folder / "snippet.py").write_text(code.replace(f"<your {spec.family} folder>", spec.path))


def header(folder) -> dict[str, str]:
    with safe_open(web_lora(folder), "pt") as opened:
        return opened.metadata()


def changes(spec, diffusion) -> dict[str, torch.Tensor]:
    """Parameter -> trained minus base."""
    base = load_pipeline(spec).unet.state_dict()
    return {name: value - base[name] for name, value in load_file(diffusion / FILE).items()}


def test_stock_diffusers_draws_what_our_sampling_draws(export, published, backbones):
    scales = {"weights": 0.5, "keys": 2.0}  # so that each shows
    diffusion = {
        case: published(case[0], unet=case[1], train=case[2], scale=scales[case[1]])
        for case in CASES
    }
    folders = {
        case: export(case[0], diffusion=diffusion[case], out="-".join(case)) for case in CASES
    }
    for case, folder in folders.items():
        write_snippet(folder, backbones(case[0]))
    command = [sys.executable, "-I", "-c", WITHOUT_US, *map(str, folders.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for case, folder in folders.items():
        spec, mine = backbones(case[0]), ours(backbones(case[0]), diffusion[case])
        theirs = (np.load(folder / "drawn.npy") * 255).round().astype(int)
        assert np.abs(mine - theirs).max() <= 1, case
        (diffusion[case] / FILE).unlink()
        assert np.abs(mine - ours(spec, diffusion[case])).max() > 8, "the training shows"
        written = {path.name for path in folder.iterdir()}
        assert ("unet" in written, CUSTOM_DIFFUSION in written) == (
            case[1] == "weights",
            case[1] == "keys",
        )


@pytest.mark.parametrize("unet", ["weights", "attention", "keys"])
def test_generate_reads_them(unet, export, published, backbones, tmp_path):
    spec, diffusion = backbones("sd15"), published("sd15", unet=unet)
    (file,) = draw(
        export("sd15", diffusion=diffusion),
        prompts=[PROMPT],
        seeds=[0],
        out=tmp_path / "out.png",
        base=spec.path,
        steps=3,
        guidance=3.0,
        device="cpu",
    )
    assert np.abs(np.asarray(Image.open(file)).astype(int) - ours(spec, diffusion)).max() <= 1


def test_a_whole_unet_is_in_diffusers_own_format(export, published, backbones):
    diffusion = published("sd15", unet="attention")
    folder = export("sd15", diffusion=diffusion) / "unet"
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    assert "_name_or_path" not in json.loads((folder / "config.json").read_text())
    assert backbones("sd15").path not in (folder / "config.json").read_text()
    base = load_pipeline(backbones("sd15")).unet.state_dict()
    trained, whole = load_file(diffusion / FILE), load_file(next(folder.glob("*.safetensors")))
    assert whole.keys() == base.keys()
    assert all(torch.equal(value, (base | trained)[name]) for name, value in whole.items())


def test_weights_are_as_precise_as_the_base_model_and_the_readme_says_what_that_costs(
    export, published, backbones, tmp_path
):
    spec = backbones("sd15")
    shutil.copytree(spec.path, tmp_path / "half")
    half = tmp_path / "half" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: value.half() for name, value in load_file(half).items()}, half)
    diffusion = published("sd15", unet="keys")
    spec = dataclasses.replace(spec, path=str(tmp_path / "half"))
    folder = export("sd15", diffusion=diffusion, spec=spec)
    held = load_file(folder / CUSTOM_DIFFUSION)
    assert {value.dtype for value in held.values() if len(value)} == {torch.float16}
    trained, change = load_file(diffusion / FILE), changes(spec, diffusion)
    lost = sum(float((v - v.half().float()).square().sum()) for v in trained.values())
    share = math.sqrt(lost / sum(float(v.square().sum()) for v in change.values()))
    assert 0 < share < 0.01
    said = f"is in float16, as the base model's weights are: rounding\nchanges it by {share:.2%}"
    assert said in (folder / "README.md").read_text()


def test_the_lora_for_web_tools_is_the_change_where_its_rank_suffices(export, published, backbones):
    spec, diffusion = backbones("sdxl"), published("sdxl", unet="keys")
    folder = export("sdxl", diffusion=diffusion, rank=64)
    pipeline = load_pipeline(spec)
    pipeline.load_lora_weights(folder, weight_name=web_lora(folder).name)
    for file in sorted((folder / "embeddings").iterdir()):
        rows = load_file(file)
        for key, suffix in (("clip_l", ""), ("clip_g", "_2")):
            pipeline.load_textual_inversion(
                {f"<{file.stem}>": rows[key]},
                text_encoder=getattr(pipeline, f"text_encoder{suffix}"),
                tokenizer=getattr(pipeline, f"tokenizer{suffix}"),
            )
    generator = torch.Generator().manual_seed(0)
    theirs = pipeline(PROMPT, generator=generator, output_type="np", **HOW).images[0]
    assert np.abs((theirs * 255).round() - ours(spec, diffusion)).max() <= 2
    assert float(header(folder)["clif_exp_relative_error"]) < 0.002, "rounding to half precision"


def test_every_changed_matrix_is_held_under_kohyas_name(export, published, backbones):
    spec, diffusion = backbones("sd15"), published("sd15", unet="weights")
    lora = load_file(web_lora(export("sd15", diffusion=diffusion, rank=8)))
    change = changes(spec, diffusion)
    matrices = {name: value for name, value in change.items() if value.ndim > 1}
    assert {key.split(".")[0] for key in lora} == {
        "lora_unet_" + name.removesuffix(".weight").replace(".", "_") for name in matrices
    }
    missed = total = 0.0
    for name, wanted in matrices.items():
        key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        up, down = (lora[f"{key}.lora_{part}.weight"].float() for part in ("up", "down"))
        rank = min(8, *wanted.flatten(1).shape)
        # kohya's shapes of convolutions, which its own scripts and ComfyUI check
        assert up.shape == (wanted.shape[0], rank, *(1 for _ in wanted.shape[2:]))
        assert down.shape == (rank, *wanted.shape[1:])
        held = up.flatten(1) @ down.flatten(1) * lora[f"{key}.alpha"] / rank
        exact = torch.linalg.svdvals(wanted.flatten(1))[rank:].square().sum()
        error = (wanted.flatten(1) - held).square().sum()
        torch.testing.assert_close(error, exact, rtol=0.01, atol=1e-4)
        missed, total = missed + float(error), total + float(wanted.square().sum())
    left_out = sum(float(value.square().sum()) for value in change.values() if value.ndim == 1)
    assert left_out > 0
    found = header(web_lora(export("sd15", diffusion=diffusion, rank=8)).parent)
    error = math.sqrt((missed + left_out) / (total + left_out))
    assert float(found["clif_exp_relative_error"]) == pytest.approx(error, abs=1e-3)
    assert float(found["clif_exp_left_out"]) == pytest.approx(
        math.sqrt(left_out / (total + left_out)), abs=1e-3
    )
    assert found["clif_exp_rank"] == found["ss_network_dim"] == "8"


def test_the_readme_says_how_near_the_lora_is_and_warns_where_it_is_far(export, published, caplog):
    diffusion = published("sd15", unet="weights")
    with caplog.at_level(logging.WARNING):
        folder = export("sd15", diffusion=diffusion, rank=1)
    found, card = header(folder), (folder / "README.md").read_text()
    error, worst = float(found["clif_exp_relative_error"]), found["clif_exp_worst_layer_error"]
    assert error > 0.3
    row = f"| {error:.3f} | {float(worst):.3f} in `{found['clif_exp_worst_layer']}` |"
    assert row in card
    assert "biases and norms" in card
    assert "**It is far from what was trained**" in card
    (message,) = [r.getMessage() for r in caplog.records if "export.lora_rank=1" in r.getMessage()]
    assert f"misses {error:.2f}" in message
    near = export("sd15", diffusion=diffusion, rank=1000, out="near")
    assert "It is far from" not in (near / "README.md").read_text()


@pytest.mark.parametrize(("unet", "file"), [("weights", "unet/"), ("keys", CUSTOM_DIFFUSION)])
def test_the_readme_says_which_tool_reads_which_file(unet, file, export):
    folder = export("sd15", unet=unet)
    card, name = (folder / "README.md").read_text(), web_lora(folder).name
    assert f"| `{file}` | diffusers: " in card
    assert (
        f"| `{name}` | ComfyUI, A1111, Forge, kohya's scripts; the nearest LoRA of rank 8" in card
    )
    assert f"<lora:{web_lora(folder).stem}:1>" in card
    assert "It has no file for what was trained in the U-Net." not in card


def test_a_text_encoders_lora_is_in_the_same_file_for_web_tools(export):
    folder = export("sd15", unet="weights", train="lora")
    lora = load_file(web_lora(folder))
    assert {key.split("_")[1] for key in lora} == {"unet", "te"}
    assert json.loads(header(folder)["ss_network_args"])["unet_dim"] == "8"


def test_the_same_weights_give_the_same_bytes(export, published):
    diffusion = published("sd15", unet="weights")
    first, again = export("sd15", diffusion=diffusion), export("sd15", diffusion=diffusion, out="b")
    for file in [path for path in first.rglob("*") if path.is_file()]:
        assert file.read_bytes() == (again / file.relative_to(first)).read_bytes(), file


class PerLayerEmbeddings:
    """A kind of tuning that no stock tool reads."""

    file = "layers.safetensors"

    @classmethod
    def published_in(cls, folder):
        return (folder / cls.file).is_file()

    @classmethod
    def export(cls, folder, out, *, facts):  # noqa: ARG003  # one file says all
        (out / cls.file).write_bytes((folder / cls.file).read_bytes())
        unread = "the embeddings of each layer"
        return Exported(files={cls.file: "no stock tool"}, unread=unread)


def test_what_no_stock_tool_reads_is_said_first(export, published, monkeypatch):
    diffusion = published("sd15", unet="keys")
    save_file({"rick": torch.ones(2)}, diffusion / PerLayerEmbeddings.file)
    monkeypatch.setitem(registry.KINDS, "layers", PerLayerEmbeddings)
    card = (export("sd15", diffusion=diffusion) / "README.md").read_text()
    said = "**No stock tool reads all of this**: the embeddings of each layer are for"
    assert said in card
    assert card.index(said) < card.index("## Files")
    assert "| `layers.safetensors` | no stock tool |" in card
