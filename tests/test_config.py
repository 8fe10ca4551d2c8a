"""The config tree: everything composes, and errors name the field and the remedy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clif_exp.runs import entry
from clif_exp.runs.config import validate
from clif_exp.runs.messages import config_folder
from support import composed

CONF = config_folder()
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
CHOICES = [(group, file.stem) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]
# What a choice needs besides itself.
COMPANIONS = {
    ("dataset", "folder"): ["dataset.root=."],
    ("dataset", "dreambench"): ["dataset.root=."],
    ("dataset", "customconcept101"): ["dataset.root=."],
    ("experiment", "dreambench"): ["dataset.root=."],
    ("experiment", "customconcept101"): ["dataset.root=."],
    ("captioner", "vlm"): ["captioner.settings.model=somewhere"],
    ("generation", "real"): ["model=sd15"],
    ("evaluation", "real"): ["model=sd15"],
}


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda value: value)
def test_every_config_composes_and_is_valid(group, choice):
    sign = "+" if group == "experiment" else ""
    validate(composed(f"{sign}{group}={choice}", *COMPANIONS.get((group, choice), [])))


@pytest.mark.parametrize(
    "file", sorted(CONF.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}"
)
def test_every_config_opens_with_the_command_that_runs_it(file):
    head = file.read_text().split("\n\n")[0].splitlines()
    comments = [line for line in head if line.startswith("#")]
    assert any("python -m clif_exp" in line for line in comments), (
        f"{file} does not say how to run it"
    )


@pytest.mark.parametrize("ablated", ["global", "region", "mix"])
def test_an_ablation_removes_one_augmentation_and_nothing_else(ablated):
    full = composed("+experiment=clif")
    less = composed(f"+experiment=ablate_{ablated[0]}aug")
    assert (
        full["augmentation"][ablated]["num_pairs"] > 0 == less["augmentation"][ablated]["num_pairs"]
    )
    less["augmentation"][ablated]["num_pairs"] = full["augmentation"][ablated]["num_pairs"]
    less["name"], less["method"]["name"] = full["name"], full["method"]["name"]
    assert less == full


def test_an_experiment_keeps_its_ablation_under_debug():
    assert (
        composed("+experiment=ablate_raug", "debug=fast")["augmentation"]["region"]["num_pairs"]
        == 0
    )


def test_a_method_that_reads_no_pairs_composes_none_under_debug():
    for method, mixed in (("clif", 8), ("dreambooth", 0), ("textual_inversion", 0)):
        found = composed(f"method={method}", "debug=fast")["augmentation"]
        assert found["mix"]["num_pairs"] == mixed
        assert found["contexts"]["images_per_name"] == 1


@pytest.mark.parametrize("debug", ["fast", "default", "overfit"])
def test_debug_makes_the_default_cast_smaller_but_never_a_data_set_that_was_chosen(debug):
    assert composed(f"debug={debug}")["dataset"]["size"] == (1 if debug == "overfit" else 2)
    for chosen in (["dataset=folder", "dataset.root=."], ["dataset=photos"], ["dataset=toonworld"]):
        assert composed(f"debug={debug}", *chosen)["dataset"] == composed(*chosen)["dataset"]


def test_experiments_on_real_models_carry_the_released_codes_settings():
    for family in ("sd15", "sdxl"):
        config = validate(
            composed(
                f"+experiment=clif_{family}", "dataset=folder", "dataset.root=.", "trainer=gpu"
            )
        ).plain()
        first, second = config["contrastive"], config["diffusion"]
        assert (config["name"], config["model"]["family"]) == (f"clif_{family}", family)
        assert config["segmenter"]["name"] == "sam"
        assert config["evaluation"]["reader"]["kind"] == "open_vocabulary"
        assert (first["learning_rate"], first["batch_size"], first["weight_decay"]) == (
            1e-4,
            128 * 2 * 8,
            1e-2,
        )
        assert (second["learning_rate"], second["batch_size"], second["rank"]) == (
            2e-4,
            5 * 2 * 8,
            16,
        )
        assert first["gradient_clip"] == second["gradient_clip"] == 1.0
        assert second["train_embeddings"]
    assert first["encoders"] == ["text_encoder"]
    assert second["gradient_checkpointing"]
    assert (first["reconstruction"]["learning_rate"], first["reconstruction"]["batch_size"]) == (
        2e-4,
        4 * 2 * 8,
    )
    assert composed("+experiment=clif_sd15")["contrastive"]["reconstruction"] is None


def test_what_a_choice_sets_at_the_top_level_holds():
    assert composed("hparams_search=grid")["objective"] == "multi/confusion"
    assert composed("debug=default")["artifacts"]["reuse"] is False
    assert composed("debug=overfit")["name"] == "overfit"
    assert composed("hparams_search=grid", "name=mine")["name"] == "mine"


def imported_by(*arguments: str) -> set[str]:
    script = f"""
import atexit, sys
atexit.register(lambda: print("MODULES", *sys.modules, file=sys.stderr))
sys.argv = ["clif_exp", *{list(arguments)!r}]
import runpy
runpy.run_module("clif_exp", run_name="__main__")
"""
    completed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert completed.returncode == 0, completed.stderr
    return set(completed.stderr.rsplit("MODULES", 1)[1].split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--cfg", "job"], ["--info", "defaults"]], ids=" ".join
)
def test_help_and_config_display_import_nothing_heavy(arguments):
    modules = imported_by(*arguments)
    heavy = {
        "torch",
        "numpy",
        "lightning",
        "diffusers",
        "transformers",
        "pydantic",
        "rich",
        "PIL",
        "wandb",
        "clif_exp.runs.job",
    }
    assert not heavy & modules


def test_sweep_folders_are_short_and_unique():
    name = entry.job_folder_name("+experiment=ablate_raug,augmentation.region.num_pairs=3,seed=1")
    assert name.startswith("experiment=ablate_raug,num_pairs=3,seed=1-")
    assert len(name.rsplit("-", 1)[1]) == 8
    other = entry.job_folder_name("+experiment=ablate_raug,augmentation.global.num_pairs=3,seed=1")
    assert other != name
    assert other[:-8] == name[:-8]
    assert len(entry.job_folder_name(",".join(f"a.b.key{i}={i}" for i in range(99)))) <= 89
    assert "/" not in entry.job_folder_name("dataset.root=/some/where")


def test_the_config_folder_of_a_checkout_is_beside_src():
    assert Path(CONF, "config.yaml").is_file()


@pytest.mark.parametrize("model", ["sd15", "sd21", "sdxl"])
@pytest.mark.parametrize("method", sorted(f.stem for f in (CONF / "method").glob("*.yaml")))
def test_what_a_method_states_holds_whatever_the_model(method, model):
    """SD has no prior images by default, but DreamBooth is not itself without them."""
    stated = yaml.safe_load((CONF / "method" / f"{method}.yaml").read_text())

    def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
        if isinstance(tree, dict):
            for key, value in tree.items():
                yield from leaves(value, (*path, key))
        else:
            yield path, tree

    found = composed(f"method={method}", f"model={model}")
    for path, value in leaves({key: stated[key] for key in stated if key != "defaults"}):
        here: Any = found
        for key in path:
            here = here[key]
        if not str(value).startswith("${"):
            assert here == (float(value) if isinstance(here, float) else value), path


@pytest.mark.parametrize(
    ("experiment", "rate", "steps", "prior_share"),
    [
        ("textual_inversion_sd15", 2e-3, 3000, 0.0),
        ("dreambooth_sd15", 5e-6, 800, 0.5),
        ("custom_diffusion_sd15", 8e-5, 500, 0.5),
        ("mix_of_show_sd15", 1e-4, 625, 0.0),
    ],
)
def test_published_settings_are_an_experiment(experiment, rate, steps, prior_share):
    stage_2 = composed(f"+experiment={experiment}")["diffusion"]
    trained = "embedding_learning_rate" if stage_2["unet"] == "frozen" else "learning_rate"
    assert stage_2[trained] == rate
    assert (stage_2["steps"], stage_2["prior_share"]) == (steps, prior_share)
