"""`python -m clif_exp.merge`: exports of different runs become one, as a merge in one run does."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from clif_exp.base_models.customised import load_customised_pipeline
from clif_exp.base_models.layerwise import cross_attention_layers, save_layerwise_embeddings
from clif_exp.base_models.loading import load_pipeline
from clif_exp.base_models.unet_tuning.lora import LoraTuning
from clif_exp.base_models.unet_tuning.targets import KEYS_AND_VALUES
from clif_exp.base_models.unet_tuning.weights import WeightTuning
from clif_exp.diffusion.prior import general_texts
from clif_exp.export.reading import load_export, read_card
from clif_exp.export.record import read_regional
from clif_exp.generate import main as generate
from clif_exp.merge import main, settings_of
from clif_exp.methods.merging import merge

PROMPT = "a photo of <rick> on the left and <morty> on the right"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
QUICK = ["method.merging.num_inference_steps=2"]
CASES = {
    "addition": (LoraTuning(2, 4.0, ATTENTION), []),
    "constrained": (WeightTuning(KEYS_AND_VALUES), []),
    "gradient_fusion": (LoraTuning(2, 4.0, ATTENTION), QUICK),
}


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
    [
        ("addition", "sdxl"),
        ("constrained", "sdxl"),
        # fast ones below fuse more: embeddings per layer, text encoders
        pytest.param("gradient_fusion", "sd15", marks=pytest.mark.slow),
    ],
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
    assert np.abs(drawn(load(spec, out)) - drawn(expected)).max() <= 1
    assert sorted(file.stem for file in (out / "embeddings").iterdir()) == ["morty", "rick"]
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_text_encoders_and_embeddings_per_layer_are_merged_and_a_third_export_joins(
    tmp_path, spanning, customise_apart, add_text_lora, exported
):
    spec = spanning("sd15")
    parts = customise_apart(spec, LoraTuning(2, 4.0, ATTENTION), names=("rick", "morty", "beth"))
    add_text_lora(parts, spec)
    layers = len(cross_attention_layers(load_pipeline(spec).unet))
    for seed, (name, folder) in enumerate(parts.items()):
        rows = torch.randn(layers, 2, 32, generator=torch.Generator().manual_seed(seed))
        save_layerwise_embeddings(folder, {"text_encoder": {name: rows}})
        (folder / "concept_embeddings.safetensors").unlink()
    exports = exported(spec, parts)
    out = tmp_path / "merged"
    how = {"by": "gradient_fusion"}
    assert run(spec, [exports["rick"], exports["morty"]], out, "--set", *QUICK, **how) == 0
    two = {name: parts[name] for name in ("rick", "morty")}
    expected = merged_in_one_run(tmp_path, spec, two, overrides=QUICK, **how)
    assert_same_weights(load(spec, out), expected, base=load_pipeline(spec), tolerance=2e-4)
    assert np.abs(drawn(load(spec, out)) - drawn(expected)).max() <= 1
    # whole weights and a whole text encoder are what a merged export holds
    assert run(spec, [out, exports["beth"]], tmp_path / "three", "--set", *QUICK, **how) == 0
    three = load(spec, tmp_path / "three")
    held = [f"<{name}>" in three.tokenizer.get_vocab() for name in parts]
    assert held == [True] * 3
    assert {file.stem for file in (tmp_path / "three" / "sources").iterdir()} >= {
        yaml.safe_load(file.read_text().split("---")[1])["clif_exp"]["name"]
        for file in (folder / "README.md" for folder in (*exports.values(), out))
    }


def test_a_third_export_is_added_to_a_merged_one(tmp_path, spanning, customise_apart, exported):
    spec = spanning("sd15")
    parts = customise_apart(spec, CASES["addition"][0], names=("rick", "morty", "beth"))
    exports = exported(spec, parts)
    two, three = tmp_path / "two", tmp_path / "three"
    assert run(spec, [exports["rick"], exports["morty"]], two, by="addition") == 0
    assert run(spec, [two, exports["beth"]], three, by="addition") == 0
    expected = merged_in_one_run(tmp_path, spec, parts, by="addition")
    assert_same_weights(load(spec, three), expected, base=load_pipeline(spec))


@pytest.mark.parametrize(("others", "merged"), [(0.5, 0.5), (None, None)])
def test_embeddings_alone_are_laid_together(
    tmp_path, spanning, customise_apart, exported, others, merged
):
    spec = spanning("sd15")
    parts = customise_apart(spec, CASES["addition"][0])
    for folder in parts.values():
        (folder / "pytorch_lora_weights.safetensors").unlink()
    exports = exported(spec, parts, regional={"rick": 0.5, "morty": others})
    out = tmp_path / "merged"
    assert run(spec, exports.values(), out, by="addition") == 0
    # Images of both are drawn by region where both runs drew so.
    card = read_card(out)
    assert read_regional(card) == merged
    assert ("**By region**" in card["text"]) == (merged is not None)
    assert not list(out.glob("*.safetensors"))
    for name, folder in exports.items():
        file = f"embeddings/{name}.safetensors"
        assert (out / file).read_bytes() == (folder / file).read_bytes()


def test_keys_and_values_of_a_merged_export_are_merged_again(
    tmp_path, spanning, customise_apart, exported
):
    spec = spanning("sd15")
    parts = customise_apart(spec, CASES["constrained"][0], names=("rick", "morty", "beth"))
    exports = exported(spec, parts)
    two, three = tmp_path / "two", tmp_path / "three"
    assert run(spec, [exports["rick"], exports["morty"]], two, by="constrained") == 0
    assert run(spec, [two, exports["beth"]], three, by="constrained") == 0
    merged = load(spec, three)
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight"
    made = merged.unet.state_dict()[name]
    for concept, folder in parts.items():
        own = load_file(folder / "unet_weights.safetensors")[name]
        prompt = merged.maybe_convert_prompt(f"photo of a <{concept}>", merged.tokenizer)
        ids = merged.tokenizer(prompt, return_tensors="pt").input_ids
        hidden = merged.text_encoder(ids).last_hidden_state[0, 4:7]
        torch.testing.assert_close(hidden @ made.T, hidden @ own.T, rtol=5e-3, atol=5e-4)


def test_of_half_precision_weights_a_merge_loses_what_the_exports_have_lost(
    tmp_path, spanning, customise_apart, exported
):
    whole = spanning("sd15")
    pipeline = load_pipeline(whole)
    pipeline.unet.half()
    pipeline.save_pretrained(tmp_path / "half")
    spec = replace(whole, path=str(tmp_path / "half"))
    parts = customise_apart(spec, WeightTuning(ATTENTION))
    exports = exported(spec, parts)
    out = tmp_path / "merged"
    how = {"by": "gradient_fusion"}
    assert run(spec, exports.values(), out, "--set", *QUICK, **how) == 0
    expected = merged_in_one_run(tmp_path, spec, parts, overrides=QUICK, **how)
    found, wanted, base = (
        pipe.unet.state_dict() for pipe in (load(spec, out), expected, load_pipeline(spec))
    )
    lost = sum(float((found[n] - wanted[n]).square().sum()) for n in base)
    change = sum(float((wanted[n] - base[n]).square().sum()) for n in base)
    assert 0 < lost < 0.01**2 * change
    assert "in half precision: `rick_" in (out / "README.md").read_text()


def test_the_merged_export_says_what_it_is_and_every_tool_reads_it(
    tmp_path, spanning, customise_apart, exported, monkeypatch, caplog
):
    spec = spanning("sd15")
    exports = exported(spec, customise_apart(spec, CASES["addition"][0]))
    for name, licence in (("rick", "openrail"), ("morty", "mit")):
        file = exports[name] / "README.md"
        head = f"license: {licence}\nlanguage: en\nlibrary_name:"
        file.write_text(file.read_text().replace("library_name:", head, 1))
    out = tmp_path / "merged"
    arguments = ["--name-of", "morty=mort", "--out", str(out)]
    assert run(spec, exports.values(), out, *arguments, by="addition") == 0
    assert "share directions" in caplog.text
    card = (out / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert (head["license"], head["license_name"], head["language"]) == ("other", "several", "en")
    assert head["clif_exp"]["concepts"] == {"rick": "man", "mort": "man"}
    assert "merged by `addition` from 2 exports." in card
    names = {}
    for name, folder in exports.items():
        record = yaml.safe_load((folder / "README.md").read_text().split("---")[1])["clif_exp"]
        names[name] = record["name"]
        kept = out / "sources" / f"{record['name']}.md"
        assert kept.read_text() == (folder / "README.md").read_text()
    assert f"| `{names['rick']}` | rick | method_of_rick | openrail |" in card
    assert f"| `{names['morty']}` | mort (there: morty) | method_of_morty | mit |" in card
    assert "share directions" in card
    assert "merging: {kind: addition}" in card

    # the README's code, by stock diffusers, draws what `generate` draws
    prompt = "a photo of <rick> on the left and <mort> on the right"
    (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
    code = code.replace(f"<your {spec.family} folder>", spec.path)
    code, _, call = code.rpartition("\nimage = pipe(")
    assert f'"{prompt}", guidance_scale=3.0, num_inference_steps=2)' in call
    monkeypatch.chdir(out)
    scope = {}
    exec(compile(code, "README", "exec"), scope)
    generator = torch.Generator().manual_seed(0)
    how = {"num_inference_steps": 2, "guidance_scale": 3.0, "generator": generator}
    stock = np.asarray(scope["pipe"](prompt, **how).images[0]).astype(int)
    wanted = ["--prompt", prompt, "--out", str(out / "i.png")]  # as both runs drew
    assert generate(["--model", ".", "--base", spec.path, "--device", "cpu", *wanted]) == 0
    ours = np.asarray(Image.open(out / "i.png")).astype(int)
    assert np.abs(stock - ours).max() <= 1


def test_help_imports_no_library_that_takes_long():
    code = (
        "import sys\nfrom clif_exp.merge import main\ntry:\n    main(['--help'])\n"
        "except SystemExit:\n    assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
