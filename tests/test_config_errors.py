"""Wrong settings: every refusal names the field and the remedy, in one line."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
from hydra.errors import HydraException

from clif_exp.runs.config import validate
from clif_exp.runs.messages import RENAMED, composition_error
from support import composed


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
        (
            ["diffusion.unet=frozen", "diffusion.train_embeddings=false"],
            ["diffusion.unet", "found 'frozen'", "train_embeddings"],
        ),
        (["diffusion.learning_rate=fast"], ["diffusion.learning_rate", "'fast'"]),
        (["diffusion.steps=null"], ["diffusion.steps", "null", "images_per_concept"]),
        (
            ["diffusion.images_per_concept=1200"],
            ["diffusion.steps", "800", "images_per_concept=1200"],
        ),
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
        (
            [
                "contrastive=lora",
                "diffusion.text_lora={learning_rate: 1.0e-5, rank: 4, alpha: 4.0,"
                " target_modules: [q_proj]}",
            ],
            ["contrastive.text_encoder", "'lora' with diffusion.text_lora", "one stage only"],
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
