"""What diffusers, ComfyUI, A1111, Forge and kohya's scripts find in an export."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
import shlex
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from clif_exp.base_models.spec import packaged_weights
from clif_exp.base_models.text_tuning import LORA_FILE, WEIGHTS_FILE
from support import SAMPLING, settings, web_lora

# A Python that does not know this package, and checks what each snippet has made.
WITHOUT_US = """
import os, sys
from PIL import Image
sys.modules["clif_exp"] = None
for file in sys.argv[1:]:
    os.chdir(os.path.dirname(file))
    names = {"__name__": "__main__"}
    exec(compile(open(file).read(), file, "exec"), names)
    pipe = names["pipe"]
    assert all(names for names in pipe.get_list_adapters().values())
    for tokenizer in (pipe.tokenizer, getattr(pipe, "tokenizer_2", pipe.tokenizer)):
        assert {"<rick>", "<rick>_1", "<morty>"} <= tokenizer.get_vocab().keys()
    image = Image.open("image.png")
    assert (image.size, image.mode) == ((32, 32), "RGB")
    os.remove("image.png")
"""


def header(file) -> dict[str, str]:
    with safe_open(file, "pt") as opened:
        return opened.metadata()


def test_every_snippet_of_the_readme_runs_without_this_package(export, backbones):
    files = []
    cases = [("sd15", "frozen"), ("sdxl", "frozen"), ("sd15", "lora"), ("sdxl", "full")]
    for family, train in cases:
        folder = export(family, train=train, out=f"{family}_{train}")
        snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
        assert snippets
        for number, snippet in enumerate(snippets):
            assert f'"<your {family} folder>"' in snippet
            code = snippet.replace(f"<your {family} folder>", backbones(family).path)
            files.append(folder / f"snippet_{number}.py")
            files[-1].write_text(code)
    command = [sys.executable, "-I", "-c", WITHOUT_US, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_readme_says_each_tools_own_line(export):
    folder = export("sd15")
    name, card = web_lora(folder).stem, (folder / "README.md").read_text()
    prompt = "a photo of {} on the left and {} on the right"
    assert f'pipe("{prompt.format("<rick>", "<morty>")}", guidance_scale=3.0, ' in card
    assert f"\n    {prompt.format('embedding:rick', 'embedding:morty')}\n" in card
    assert "`embedding:morty 's hat`" in card, "ComfyUI takes all up to a space for the file"
    assert f"\n    {prompt.format('rick', 'morty')} <lora:{name}:1>\n" in card
    assert f"| `{name}.safetensors` | ComfyUI, A1111, Forge" in card
    assert "| `pytorch_lora_weights.safetensors` | diffusers only" in card


def test_toonworlds_readme_says_where_its_pipeline_is(export, backbones, curated, published):
    from clif_exp.export.stage import export_run

    spec = dataclasses.replace(
        backbones("sd15"), family="toonworld", path=str(packaged_weights() / "pipeline")
    )
    folder = export("sd15").parent / "toonworld"
    export_run(
        folder,
        spec=spec,
        concepts=curated["concepts"],
        diffusion=published("sd15", scale=0.25),
        config={},
        sampling=SAMPLING,
        settings=settings("export"),
    )
    line = re.search(r"^ {4}python (-c .*)$", (folder / "README.md").read_text(), re.M)
    done = subprocess.run(
        [sys.executable, *shlex.split(line[1])], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == spec.path, done.stderr
    assert header(web_lora(folder))["ss_base_model_version"] == "toonworld"


def test_a_concept_named_like_a_word_is_warned_of(export, published, curated, caplog):
    from clif_exp.base_models.tokens import EMBEDDINGS_FILE, save_concept_embeddings

    rick, morty = curated["concepts"].concepts
    named = dataclasses.replace(
        curated["concepts"], concepts=(rick, dataclasses.replace(morty, name="hat"))
    )
    folder = published("sd15")
    embeddings = {"rick": torch.ones(2, 32), "hat": torch.ones(2, 32)}
    save_concept_embeddings(folder / EMBEDDINGS_FILE, {"text_encoder": embeddings})
    with caplog.at_level(logging.WARNING):
        card = (export("sd15", concepts=named, diffusion=folder) / "README.md").read_text()
    (message,) = [record.getMessage() for record in caplog.records if "A1111" in record.message]
    assert message.startswith("export: hat: ")
    assert "**Common words** (`hat`)" in card, "rick is no word of this tokenizer"


def test_names_that_are_no_words_are_not_warned_of(export, caplog):
    with caplog.at_level(logging.WARNING):
        card = (export("sd15") / "README.md").read_text()
    assert "Common words" not in card
    assert not [record for record in caplog.records if "A1111" in record.message]


@pytest.mark.parametrize(
    ("family", "prefixes"), [("sd21", ["lora_te_"]), ("sdxl", ["lora_te1_", "lora_te2_"])]
)
def test_attention_trained_in_part_is_there_as_a_whole(family, prefixes, export, published):
    diffusion = published(family, train="lora", targets=("q_proj", "v_proj", "fc1"))
    lora = load_file(web_lora(export(family, diffusion=diffusion)))
    layers = {key.split("_self_attn_")[0] for key in lora if "_self_attn_" in key}
    assert {prefix for prefix in prefixes if any(name.startswith(prefix) for name in layers)} == {
        *prefixes
    }
    trained = {key.rsplit(".", 2)[0] for key in load_file(diffusion / LORA_FILE)}
    assert {name.rsplit(".", 1)[1] for name in trained} == {"q_proj", "v_proj", "fc1"}
    for layer in layers:
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            down, up, alpha = (
                lora[f"{layer}_self_attn_{part}.{what}"]
                for what in ("lora_down.weight", "lora_up.weight", "alpha")
            )
            assert (down.shape, up.shape, alpha.item()) == ((3, 32), (32, 3), 6.0)
            assert (up @ down).abs().max() > 0 if part in ("q_proj", "v_proj") else not up.any()


def test_whole_encoders_have_the_prefix_that_tools_look_for(export, published):
    diffusion = published("sdxl", train="full")
    folder = export("sdxl", diffusion=diffusion)
    trained = load_file(diffusion / WEIGHTS_FILE)
    for encoder in ("text_encoder", "text_encoder_2"):
        key = "text_model.encoder.layers.0.mlp.fc1.weight"
        whole = load_file(folder / encoder / "model.safetensors")
        assert torch.equal(whole[key], trained[f"{encoder}.{key}"])
        assert f"`{encoder}/`" in (folder / "README.md").read_text()


def test_the_header_says_what_kohyas_scripts_write(export):
    folder = export("sd21", train="lora")
    file = web_lora(folder)
    found = header(file)
    content = file.read_bytes()
    digest = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    assert json.loads(found.pop("ss_network_args")) == {
        "text_encoder_alpha": "6.0",
        "text_encoder_dim": "3",
        "unet_alpha": "4.0",
        "unet_dim": "2",
    }
    assert json.loads(found.pop("ss_tag_frequency")) == {"clif_exp": {"rick": 1, "morty": 1}}
    assert re.fullmatch(r"[0-9a-f]{8}", found.pop("sshs_legacy_hash"))
    assert found.pop("modelspec.usage_hint").startswith("Needs the export's embeddings.")
    assert found == {
        "format": "pt",
        "modelspec.architecture": "stable-diffusion-v2-768-v/lora",
        "modelspec.date": "1970-01-12T13:47:40+00:00",
        "modelspec.description": "rick, morty; taught by clif_exp",
        "modelspec.hash_sha256": f"0x{digest}",
        "modelspec.implementation": "diffusers",
        "modelspec.prediction_type": "v",
        "modelspec.resolution": "32x32",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": file.stem,
        "modelspec.trigger_phrase": "rick, morty",
        "ss_base_model_version": "sd_v2_v",
        "ss_clip_skip": "None",
        "ss_network_alpha": "Dynamic",
        "ss_network_dim": "Dynamic",
        "ss_network_module": "networks.lora",
        "ss_output_name": file.stem,
        "ss_resolution": "(32, 32)",
        "ss_sd_model_name": "sd21",
        "ss_training_finished_at": "1000060.5",
        "ss_training_started_at": "1000000.0",
        "ss_v2": "True",
        "sshs_model_hash": digest,
    }


def test_one_rank_for_all_is_said_as_a_number(export):
    found = header(web_lora(export("sdxl")))
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("2", "4.0")
    assert json.loads(found["ss_network_args"]) == {}
    assert found["ss_base_model_version"] == "sdxl_base_v1-0"
    assert found["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert found["modelspec.implementation"] == "https://github.com/Stability-AI/generative-models"
    assert found["modelspec.prediction_type"] == "epsilon"


def test_the_same_run_gives_the_same_bytes_and_another_one_another_name(export, published):
    diffusion = published("sdxl", train="lora")
    first = export("sdxl", diffusion=diffusion)
    again = export("sdxl", diffusion=diffusion, out="again")
    files = sorted(file.relative_to(first) for file in first.rglob("*") if file.is_file())
    assert files == sorted(f.relative_to(again) for f in again.rglob("*") if f.is_file())
    for file in files:
        assert (first / file).read_bytes() == (again / file).read_bytes(), file
    other = export("sdxl", train="lora", scale=0.25, out="other")
    assert web_lora(other).name != web_lora(first).name
    assert web_lora(other).name.startswith("rick_morty_")
