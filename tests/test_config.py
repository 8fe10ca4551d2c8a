"""The config tree: everything composes, and errors name the field and the remedy."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from clif_exp.runs import entry
from clif_exp.runs.config import validate
from clif_exp.runs.messages import RENAMED, composition_error, config_folder

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


def composed(*overrides: str) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", list(overrides))
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


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
    less["name"] = full["name"]
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


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["seed=-1"], ["seed", "-1", "greater than or equal to 0"]),
        (["seed=abc"], ["seed", "'abc'", "integer"]),
        (["stages=[curation,train]"], ["stages.1", "'train'", "'contrastive'"]),
        (["stages=[generation,curation]"], ["stages", "in the order"]),
        (["stages=[]"], ["stages", "at least 1"]),
        (["dataset.size=0"], ["dataset.size", "found 0"]),
        (["dataset.size=19"], ["dataset.size", "19", "18"]),
        (["dataset.root=x"], ["dataset.root", "'x'", "dataset=folder"]),
        (["dataset=photos", "dataset.cast_seed=3"], ["dataset.cast_seed", "3", "toonworld"]),
        (["trainer.devices=2"], ["trainer.strategy", "trainer=ddp"]),
        (["trainer.precision=16-mixed"], ["trainer.precision", "bf16-mixed"]),
        (["trainer.max_time=0"], ["trainer.max_time", "greater than 0"]),
        (["+trainer.devises=2"], ["trainer.devises", "'devices'"]),
        (["+colour=red"], ["colour", "no such key"]),
        (
            ["logger=wandb", "logger.wandb.mode=cloud"],
            ["logger.wandb.mode", "'cloud'", "'offline'"],
        ),
        (
            ["+segmenter.settings.point_per_side=3"],
            ["segmenter.settings.point_per_side", "'points_per_side'"],
        ),
        (["diffusion.unet=frozen"], ["diffusion.unet", "found 'frozen'", "train_embeddings"]),
        (["diffusion.learning_rate=fast"], ["diffusion.learning_rate", "'fast'"]),
        (
            ["diffusion.pair_share=0.8", "diffusion.prior_share=0.3"],
            ["diffusion.pair_share", "0.8", "at most 1"],
        ),
        (
            ["diffusion.prior_share=1.0", "diffusion.pair_share=0.0"],
            ["diffusion.prior_share", "less than 1"],
        ),
        (["diffusion.caption_dropout=1.0"], ["diffusion.caption_dropout", "less than 1"]),
        (["diffusion.accumulate=3"], ["diffusion.accumulate", "batch_size=16 evenly"]),
        (
            ["diffusion.accumulate=4", "diffusion.batch_size=4", "trainer=ddp_sim"],
            ["2 devices x 4 parts", "batch_size=4"],
        ),
        (["diffusion.attention=flash"], ["diffusion.attention", "'sdpa'"]),
        (
            ["diffusion.validation.every=0"],
            ["diffusion.validation.every", "greater than or equal to 1"],
        ),
        (
            ["contrastive.lora.target_modules=[to_q]"],
            ["contrastive.lora.target_modules", "'to_q'", "'q_proj'"],
        ),
        (
            ["contrastive=lora", "contrastive.control=random_rows"],
            ["contrastive.control", "text_encoder=frozen"],
        ),
        (
            ["contrastive=full", "method=mix_only"],
            ["contrastive.text_encoder", "'full'", "mix_only"],
        ),
        (
            ["model=sd15", "contrastive.basis={words: null, rank: 3}"],
            ["contrastive.basis.words", "sd15 comes with no list of names"],
        ),
        (["contrastive.encoders=[text_encoder_2]"], ["contrastive.encoders", "toonworld has one"]),
        (
            ["+experiment=clif_sdxl", "trainer=ddp", "trainer.devices=8", "diffusion.accumulate=2"],
            ["contrastive.reconstruction.accumulate", "8 devices x 16", "batch_size=64"],
        ),
        (["augmentation.global.num_pairs=-1"], ["augmentation.global.num_pairs", "-1"]),
        (["+augmentation.global.num_pair=1"], ["augmentation.global.num_pair", "'num_pairs'"]),
        (
            ["augmentation.background_share=0.5"],
            ["augmentation.global.background_share", "contexts.backgrounds"],
        ),
        (
            ["method=mix_only", "contrastive.control=random_rows"],
            ["contrastive.control", "mix_only"],
        ),
        (
            ["method=mix_only", "method.diffusion=false"],
            ["method.diffusion", "method.contrastive=false"],
        ),
        (["model=sd15", "generation=default"], ["generation.prompts.world", "generation=real"]),
        (["model=sd15", "evaluation=default"], ["evaluation.reader.kind", "evaluation=real"]),
        (["dataset.names=[milo]"], ["dataset.size", "found 4 for 1", "dataset.size=null"]),
        (["dataset.names=[milo,milo]", "dataset.size=2"], ["dataset.names", "repetitions"]),
        (["generation.seeds=[0,0]"], ["generation.seeds", "repetitions"]),
        (["name=a/b"], ["name", "'a/b'"]),
        (["objective=stage1/identity", "method=mix_only"], ["objective", "no stage 1"]),
        (["objective=multi/confusoin"], ["objective", "multi/confusion"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and "=" in value[0] else "",
)
def test_wrong_values_and_combinations_are_refused_with_the_field(overrides, parts):
    with pytest.raises(ValueError, match=re.escape(parts[0])) as refusal:
        validate(composed(*overrides))
    message = str(refusal.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


def test_a_missing_optional_package_is_refused_with_its_name(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(
        ValueError,
        match=(
            r"diffusion.optimizer: found 'adamw8bit', .*pip install \"bitsandbytes>=0.50\", or use"
        ),
    ):
        validate(composed("diffusion.optimizer=adamw8bit"))


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["sed=1"], ["sed", "no such key"]),
        (["modle=sdxl"], ["modle", "no such"]),
        (["dataset=foto"], ["dataset", "'foto'", "photos"]),
        (["+experiment=ablate_all"], ["experiment", "'ablate_all'", "ablate_raug"]),
        (["logger=[wandb,foo]"], ["logger", "'foo'", "tensorboard"]),
        (["experiment=clif"], ["experiment", "+experiment=NAME"]),
    ],
    ids=lambda value: value[0] if "=" in value[0] else "",
)
def test_composition_errors_of_hydra_become_one_line(overrides, parts):
    with pytest.raises(HydraException) as refusal:
        composed(*overrides)
    message = composition_error(refusal.value)
    assert all(part in message for part in parts) and "\n" not in message, message


@pytest.mark.parametrize(("old", "new"), RENAMED.items(), ids=list(RENAMED))
def test_a_renamed_key_is_refused_with_its_name_now(old, new):
    with pytest.raises(HydraException, match="Could not override") as by_hydra:
        composed(f"{old}=1")
    assert composition_error(by_hydra.value) == f"{old}: is now called {new}"
    with pytest.raises(ValueError, match=f"{re.escape(old)}: is now called {re.escape(new)}"):
        validate(composed(f"+{old}=1"))
    known: Any = composed()
    for name in new.split("."):
        known = known[name]


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
