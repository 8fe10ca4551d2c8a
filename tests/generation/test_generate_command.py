"""`python -m clif_exp.generate` on an export of tiny models."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from clif_exp.generate import main


@pytest.fixture
def export(tmp_path):
    from safetensors.torch import save_file
    from torch import ones

    folder = tmp_path / "export"
    (folder / "embeddings").mkdir(parents=True)
    save_file({"<rick>": ones(2, 32)}, folder / "embeddings" / "rick.safetensors")
    (folder / "README.md").write_text(
        "---\nbase_model: <your sd15 folder>\ntags: [clif, StableDiffusionPipeline]\n---\n# rick\n"
    )
    return folder


def run(export, tmp_path, *more, prompt="a photo of <rick>"):
    return main(
        [
            "--model",
            str(export),
            "--prompt",
            prompt,
            "--steps",
            "2",
            "--out",
            str(tmp_path / "out.png"),
            *more,
        ]
    )


def test_an_image_is_the_stock_pipelines(export, tmp_path, tiny_sd15):
    import torch
    from diffusers import StableDiffusionPipeline

    assert run(export, tmp_path, "--base", tiny_sd15, "--seed", "3", "--device", "cpu") == 0
    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny_sd15, safety_checker=None, requires_safety_checker=False
    )
    pipeline.load_textual_inversion(str(export / "embeddings" / "rick.safetensors"))
    stock = pipeline(
        "a photo of <rick>",
        generator=torch.Generator().manual_seed(3),
        num_inference_steps=2,
    ).images[0]
    difference = np.asarray(stock).astype(int) - np.asarray(
        Image.open(tmp_path / "out.png")
    ).astype(int)
    assert np.abs(difference).max() <= 1


def test_several_images_go_into_a_folder(export, tmp_path, tiny_sd15, capsys):
    arguments = [
        "--model",
        str(export),
        "--prompt",
        "a photo of <rick>",
        "a photo of a dog",
        "--seed",
        "0",
        "1",
        "--steps",
        "1",
    ]
    assert (
        main(
            [
                *arguments,
                "--base",
                tiny_sd15,
                "--out",
                str(tmp_path / "many"),
                "--batch-size",
                "3",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    assert len(capsys.readouterr().out.split()) == len(list((tmp_path / "many").glob("*.png"))) == 4


def test_regional_changes_prompts_that_put_concepts_side_by_side(
    export, tmp_path, tiny_sd15, capsys
):
    from safetensors.torch import save_file
    from torch import linspace

    rows = linspace(-1, 1, 96).view(3, 32)
    save_file({"<morty>": rows}, export / "embeddings" / "morty.safetensors")
    arguments = ["--base", tiny_sd15, "--device", "cpu", "--steps", "2"]
    arguments += ["--model", str(export), "--prompt", "<rick> hugging <morty>", "<rick> on <morty>"]
    for name, more in (("stock", []), ("regional", ["--regional"])):
        assert main([*arguments, "--out", str(tmp_path / name), *more]) == 0
    assert capsys.readouterr().err == (
        "note: prompt '<rick> on <morty>': it puts no concepts side by side, so --regional changes"
        " nothing\n"
    )
    stock, regional = (
        [np.asarray(Image.open(file)) for file in sorted((tmp_path / name).iterdir())]
        for name in ("stock", "regional")
    )
    assert (stock[0] != regional[0]).any()
    assert (stock[1] == regional[1]).all()
    # An export's run that drew by region says so; asked or not, the command draws as it did.
    card = export / "README.md"
    card.write_text(card.read_text().replace("tags:", "clif_exp: {regional: 1.0}\ntags:"))
    for name, more in (("as_run", []), ("not", ["--no-regional"])):
        assert main([*arguments, "--out", str(tmp_path / name), *more]) == 0
        images = [np.asarray(Image.open(file)) for file in sorted((tmp_path / name).iterdir())]
        expected = regional if name == "as_run" else stock
        assert all((ours == theirs).all() for ours, theirs in zip(images, expected, strict=True))
    assert not capsys.readouterr().err
    # <morty> has three tokens: in its part of the image the prompt is longer than as a whole.
    long = "<rick> " * 20 + "and <morty> " + "dog " * 20
    assert main([*arguments, "--prompt", long, "--out", str(tmp_path / "x"), "--regional"]) == 2
    assert "...': a part of its image has 86 tokens, start" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "prompt", "message"),
    [
        ([], "a photo of <morty>", "<morty> is not a concept of"),
        ([], "a photo of <rick>", "Name it with --base"),
        (["--seed", "0", "1"], "a photo of <rick>", "one file for 2 images"),
        (["--model", "nowhere"], "a photo of <rick>", "is not an export"),
        (["--base", "/nowhere"], "a photo of <rick>", "base: /nowhere holds no model_index.json"),
        (["--guidance", "nan"], "a photo of <rick>", "guidance: found nan"),
        (["--guidance", "-1"], "a photo of <rick>", "guidance: found -1"),
        (["--steps", "0"], "a photo of <rick>", "steps: found 0"),
        (["--batch-size", "0"], "a photo of <rick>", "batch-size: found 0"),
        (["--seed", "-1"], "a photo of <rick>", "seed: found -1"),
        (["--device", "tpu"], "a photo of <rick>", "device: found 'tpu'"),
        (["--device", "cuda:99"], "a photo of <rick>", "device: found 'cuda:99'"),
    ],
)
def test_errors_are_one_line(export, tmp_path, capsys, more, prompt, message):
    assert run(export, tmp_path, *more, prompt=prompt) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_what_only_the_base_models_tokenizer_knows_is_refused_before_loading(
    export, tmp_path, tiny_sd15, capsys
):
    # <rick> has two tokens: 38 of them fill the 75 between start and end, and one more.
    known = "<rick> " * 38
    arguments = ["--base", tiny_sd15, "--device", "cpu"]
    assert run(export, tmp_path, *arguments, prompt=known) == 2
    assert "it has 78 tokens, start and end included" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("out", ["/proc/x.png", "folder.png", "image.jpg"])
def test_a_file_that_cannot_be_written_is_refused_before_drawing(
    export, tmp_path, tiny_sd15, capsys, out
):
    (tmp_path / "folder.png").mkdir()
    more = ["--base", tiny_sd15, "--out", str(tmp_path / out)]
    assert run(export, tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: out: ")
    assert error.count("\n") == 1


def test_a_name_without_brackets_is_told_about(export, tmp_path, tiny_sd15, capsys):
    arguments = ["--base", tiny_sd15, "--steps", "1", "--device", "cpu"]
    assert run(export, tmp_path, *arguments, prompt="a photo of Rick") == 0
    assert "'rick' is an ordinary word; the concept is <rick>" in capsys.readouterr().err


def test_an_export_is_drawn_as_its_run_drew(export, tmp_path, tiny_sd15):
    """A card that says nothing, or nonsense, leaves diffusers' own numbers."""
    card = (export / "README.md").read_text()
    stated = "inference: {parameters: {guidance_scale: 3.0, num_inference_steps: 2}}\n---\n#"
    images = {}
    for name, head, options in (
        ("stated", card.replace("---\n#", stated), []),
        ("given", card, ["--guidance", "3", "--steps", "2"]),
        ("silent", card.replace("---\n#", "inference: false\n---\n#"), []),
        ("stock", card, ["--guidance", "7.5", "--steps", "50"]),
    ):
        (export / "README.md").write_text(head)
        out = tmp_path / f"{name}.png"
        wanted = ["--prompt", "a photo of <rick>", "--base", tiny_sd15, "--device", "cpu"]
        assert main(["--model", str(export), *wanted, "--out", str(out), *options]) == 0
        images[name] = out.read_bytes()
    assert images["stated"] == images["given"] != images["stock"] == images["silent"]


def test_a_renamed_concept_is_drawn_by_its_new_name(export, tmp_path, tiny_sd15):
    """The card says to rename a file whose concept bears the name of a common word."""
    assert run(export, tmp_path, "--base", tiny_sd15, "--device", "cpu") == 0
    image = (tmp_path / "out.png").read_bytes()
    folder = export / "embeddings"
    (folder / "rick.safetensors").rename(folder / "my_rick.safetensors")
    asked = "a photo of <my_rick>"
    assert run(export, tmp_path, "--base", tiny_sd15, "--device", "cpu", prompt=asked) == 0
    assert (tmp_path / "out.png").read_bytes() == image


def test_help_imports_no_library_that_takes_long():
    code = (
        "import sys\nfrom clif_exp.generate import main\ntry:\n    main(['--help'])\n"
        "except SystemExit:\n    assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
