"""Every method runs on every family of base models, is judged, exported and reported."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from benchmark_folders import drawn_images, dreambench_table
from clif_exp.base_models.families import FAMILIES
from clif_exp.base_models.spec import packaged_weights

CONF = Path(__file__).resolve().parents[2] / "conf"
METHODS = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))
APART = ["custom_diffusion_merged", "mix_of_show", "orthogonal"]
# As far as an untrained model of 32 px goes: no SAM, no detector; a few steps.
SMALL = [
    "debug=fast",
    "callbacks=quiet",
    "segmenter=felzenszwalb",
    "generation=real",
    "evaluation=real",
    "evaluation.judge.image_path=null",
    "evaluation.reader={kind: none}",
    "augmentation.region.num_pairs=0",
    "generation.prompts={single_per_concept: 1, pairs: 1, prior: 2}",
    "generation.num_inference_steps=2",
    "generation.seeds=[0]",
    "model.resolution=32",
    "contrastive.steps=2",
    "contrastive.batch_size=8",
    "diffusion.steps=2",
    "diffusion.batch_size=2",
    "diffusion.samples=null",
    "diffusion.validation=null",
    "diffusion.prior.images=4",
    "diffusion.prior.num_inference_steps=2",
]


def tiny(backbones, family: str) -> list[str]:
    """The overrides that name a family's tiny models and ToonWorld's judge."""
    spec = backbones(family)
    towers = [f"model.contrastive.{name}={path}" for name, path in spec.contrastive.items()]
    judge = packaged_weights() / "judge_clip"
    return [f"model={family}", f"model.path={spec.path}", f"evaluation.judge.path={judge}", *towers]


def for_method(method: str) -> list[str]:
    """What is too wide for a tiny model in a method's own settings."""
    narrow = {
        "mix_of_show": ["method.merging.num_inference_steps=2"],
        "orthogonal": ["diffusion.rank=2", "diffusion.alpha=2.0"],
    }
    classes = "class_images" in (CONF / "method" / f"{method}.yaml").read_text()
    few = ["diffusion.prior={images: 0, class_images: 2}"] if classes else []
    return [f"method={method}", *narrow.get(method, []), *few]


@pytest.fixture(scope="module")
def two_concepts(tmp_path_factory) -> list[str]:
    """The overrides that name a cat and a dog, which tiny tokenizers know."""
    root = tmp_path_factory.mktemp("concepts")
    drawn_images(root, "can", "monster_toy")
    dreambench_table(root, {"can": "dog", "monster_toy": "cat"})
    return ["dataset=folder", f"dataset.root={root}"]


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "toonworld"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_runs_on_a_family(clif_exp, backbones, two_concepts, method, family):
    result = clif_exp(*SMALL, *two_concepts, *tiny(backbones, family), *for_method(method))
    assert result.code == 0, result.errors
    summary = result.summary()
    assert summary["status"] == "finished"
    assert {"single/text_alignment", "multi/text_alignment"} <= set(summary["metrics"])
    assert Path(summary["report"]).is_file()
    if method != "stage1_only":
        assert (Path(summary["export"]) / "README.md").is_file()


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name == "orthogonal" else pytest.mark.slow) for name in APART],
)
def test_one_more_concept_trains_one(clif_exp, store_with_curation, method):
    """Concepts that are customised apart are artifacts of their own."""
    few = ["debug=fast", "callbacks=quiet", "stages=[curation,diffusion]", *for_method(method)]
    few += ["diffusion.samples=null", "diffusion.validation=null", "diffusion.steps=1"]
    store = store_with_curation()
    first = clif_exp(*few, "dataset.size=1", store=store)
    assert first.code == 0, first.errors
    more = clif_exp(*few, "dataset.size=2", store=store)
    assert more.code == 0, more.errors
    stages = more.summary()["stages"]
    apart = {name: facts["reused"] for name, facts in stages.items() if "diffusion/" in name}
    assert list(apart.values()) == [True, False]
    assert not stages["diffusion"]["reused"]
    assert len({facts["fingerprint"] for facts in stages.values()}) == len(stages)
    exported = Path(more.summary()["export"])
    assert len(list((exported / "embeddings").glob("*.safetensors"))) == 2


@pytest.mark.slow  # test_sweeps.py shows it of other jobs
def test_one_sweep_over_methods_computes_nothing_twice(clif_exp, tmp_path):
    """Curation, prior images and stage 1 are shared; what they share is built once."""
    methods = ["textual_inversion", "dreambooth", "custom_diffusion", "mix_of_show"]
    methods += ["ti_clif", "custom_clif", "clif", "mix_only"]
    common = ["debug=fast", "callbacks=quiet", "stages=[curation,contrastive,diffusion]"]
    common += ["diffusion.steps=1", "diffusion.samples=null", "diffusion.validation=null"]
    result = clif_exp("-m", *common, f"method={','.join(methods)}", store=tmp_path / "store")
    assert result.code == 0, result.errors
    built: dict[str, list[str]] = {}
    for index in range(len(methods)):
        for name, facts in result.summary(index)["stages"].items():
            if not facts["reused"] and name != "curation":
                built.setdefault(facts["fingerprint"], []).append(name)
    assert [names for names in built.values() if len(names) > 1] == []
    trained = [names for names in built.values() if names == ["diffusion"]]
    assert len(trained) == len(methods), "each method's own, mix_of_show's merge among them"


def test_concepts_apart_over_two_ranks(clif_exp, store_with_curation):
    """Text LoRA, embeddings per layer and attention maps train over ranks; one merges."""
    store = store_with_curation()
    result = clif_exp(
        *("debug=fast", "callbacks=quiet", "trainer=ddp_sim", "stages=[curation,diffusion]"),
        *for_method("mix_of_show"),
        *("diffusion.samples=null", "diffusion.steps=2", "dataset.size=1"),
        store=store,
    )
    assert result.code == 0, result.errors[-2000:]
    (weights,) = (store / "merging").glob("*/unet_weights.safetensors")
    assert load_file(weights)
    assert not list((store / "diffusion").glob("*.partial"))
    assert not list((store / "merging").glob("*.partial"))


@pytest.mark.slow  # tests/methods/test_addition.py has it without a run
def test_an_orthogonal_sum_reads_directions_of_its_own(clif_exp, tmp_path):
    result = clif_exp(
        "debug=fast",
        "callbacks=quiet",
        "stages=[curation,diffusion]",
        *for_method("orthogonal"),
        "diffusion.steps=2",
        store=tmp_path / "store",
    )
    assert result.code == 0, result.errors
    lora = load_file(Path(result.summary()["export"]) / "pytorch_lora_weights.safetensors")
    for name, down in lora.items():
        if "lora_A" in name:
            rank = len(down) // 2
            assert (down[:rank].float() @ down[rank:].float().T).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["method=custom_diffusion_merged", "diffusion.unet=lora"],
            "method.merging.kind: found 'constrained' with diffusion.unet=lora",
        ),
        (
            ["diffusion.orthogonal_lora=true"],
            "orthogonal_lora: found true with method.merging=null",
        ),
        (["method=orthogonal", "diffusion.rank=64"], "diffusion.rank: "),
        (["method=orthogonal", "diffusion.orthogonal_start=40"], "for 41 concepts"),
        (["diffusion.orthogonal_start=1"], "orthogonal_start: found 1 with"),
        (
            ["method=dreambooth", "dataset.size=18", "diffusion.prior.class_images=0"],
            "diffusion.prior: found no images",
        ),
        (
            ["method=orthogonal", "diffusion.layerwise=true"],
            "diffusion.layerwise: found a value with method.merging.kind='addition'",
        ),
        (
            [
                "method=custom_diffusion_merged",
                "diffusion.text_lora={learning_rate: 1e-3, rank: 2, alpha: 2.0,"
                " target_modules: [q_proj]}",
            ],
            "diffusion.text_lora: found a value with method.merging.kind='constrained'",
        ),
        (["method=stage1_only", "method.merging={kind: addition}"], "method.merging: found kind="),
    ],
)
def test_methods_with_settings_of_others_are_refused(clif_exp, tmp_path, overrides, says):
    result = clif_exp(*overrides, store=tmp_path / "store")
    assert result.code == 2
    assert says in result.errors
    assert len(result.errors.splitlines()) == 1
    assert not list((tmp_path / "store").glob("diffusion*"))


def test_every_method_says_how_it_is_run_what_it_costs_and_what_to_expect():
    for method in METHODS:
        text = (CONF / "method" / f"{method}.yaml").read_text()
        for part in (f"python -m clif_exp method={method}\n", "Cost:", "Expect:"):
            assert part in text, f"{method}: {part}"
        assert yaml.safe_load(text)["method"]["name"] == method
