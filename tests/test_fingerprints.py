"""What a fingerprint depends on: every setting that can change a result, and no other."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from clif_exp.contrastive.settings import ReconstructionSettings
from clif_exp.curation.segmenters.settings import SEGMENTERS
from clif_exp.curation.settings import CAPTIONERS
from clif_exp.evaluation.settings import READERS
from clif_exp.generation.settings import Guidance
from clif_exp.runs.composing import compose
from clif_exp.runs.config import Config
from clif_exp.runs.execution import Plan
from clif_exp.runs.stages.contrastive import reconstruction_settings
from clif_exp.settings import INDIRECT, SPEED
from support import default_config, settings
from varied_settings import OTHER_VALUES, changed, fields, fingerprints, variant

ROOMS = (
    "segmenter",
    "captioner",
    "augmentation",
    "contrastive",
    "diffusion",
    "generation",
    "evaluation",
    "export",
    "trainer",
)
OUTSIDE = ("name", "objective", "pruning", "paths", "callbacks")  # say where and what to show
# Choices that the shipped config does not use, with what each needs besides.
CHOICES = {
    "segmenter": {
        "sam": ("segmenter=sam",),
        "felzenszwalb": ("segmenter=felzenszwalb",),
        "provided": ("segmenter=provided",),
    },
    "captioner": {
        "provided": ("captioner=provided",),
        "openai": ("captioner=openai",),
        "vlm": ("captioner=vlm", "captioner.settings.model=somewhere"),
    },
    "evaluation": {
        "oracle": ("evaluation=default",),
        "open_vocabulary": ("evaluation=real", "model=sd15", "generation=real"),
        "none": ("evaluation=default", "evaluation.reader.kind=none"),
    },
}
CASES = [(room, name) for room, choices in CHOICES.items() for name in choices]


@pytest.fixture(scope="module")
def plan(tmp_path_factory, base_models) -> Plan:
    from clif_exp.runs.pipeline import prepare

    root = tmp_path_factory.mktemp("store")
    # Few images, because each forecast writes their prompts again.
    few = "diffusion.prior.images=4"
    return prepare(default_config(f"artifacts.root={root}", few, *base_models))


@pytest.fixture(scope="module")
def walked(plan) -> dict[tuple[str, ...], dict[str, str]]:
    """Every setting -> the fingerprints with another value of it."""
    return {
        path: fingerprints(plan, variant(plan.config, path, kind))
        for path, kind, mark in fields(plan.config)
        if path[0] in (*ROOMS, *OUTSIDE, "seed") or mark is SPEED
    }


def test_settings_that_change_no_result_change_no_fingerprint(plan, walked):
    before = fingerprints(plan, plan.config)
    speed = [path for path, _, mark in fields(plan.config) if mark is SPEED or path[0] in OUTSIDE]
    assert len(speed) > 20
    wrong = [".".join(path) for path in speed if walked[path] != before]
    assert not wrong, "out-of-memory knobs that would compute everything again"


def test_every_other_setting_changes_a_fingerprint(plan, walked):
    before = fingerprints(plan, plan.config)
    relevant = [
        path
        for path, _, mark in fields(plan.config)
        if mark is None and path[0] in (*ROOMS, "seed")
    ]
    assert len(relevant) > 100
    wrong = [".".join(path) for path in relevant if walked[path] == before]
    assert not wrong, "other results would be taken for the same artifact"


def test_what_the_base_model_draws_depends_on_stage_1_only_where_it_must(plan):
    config = plan.config
    before = fingerprints(plan, config)
    other = fingerprints(plan, changed(config, ("contrastive", "steps"), 7))
    assert other["generation_class_word"] == before["generation_class_word"]
    assert other["generation_stage1"] != before["generation_stage1"]
    stage_2 = fingerprints(plan, changed(config, ("diffusion", "stated_steps"), 7))
    assert stage_2["generation_stage1"] == before["generation_stage1"]
    assert stage_2["generation"] != before["generation"]
    again = OTHER_VALUES["contrastive.reconstruction"]
    rebuilt = fingerprints(plan, changed(config, ("contrastive", "reconstruction"), again))
    assert rebuilt["contrastive"] == before["contrastive"]
    assert rebuilt["generation_stage1"] != before["generation_stage1"]
    without = fingerprints(plan, changed(config, ("method", "contrastive"), False))
    assert not {"generation_class_word", "generation_stage1"} & set(without)
    assert without["generation_prior"] == before["generation_prior"]


def test_reconstruction_depends_on_its_own_settings(plan):
    """Stage 2's only count where it is the same code that reads them."""
    stated = OTHER_VALUES["contrastive.reconstruction"]
    config = changed(plan.config, ("contrastive", "reconstruction"), stated)
    assert reconstruction_settings(config).steps == stated.steps
    before = fingerprints(plan, config)["reconstruction"]

    def moves(path: tuple[str, ...], annotation: Any) -> bool:
        return fingerprints(plan, variant(config, path, annotation))["reconstruction"] != before

    own = ReconstructionSettings.model_fields.items()
    assert all(moves(("contrastive", "reconstruction", n), field.annotation) for n, field in own)
    stage_2 = [
        (path, kind) for path, kind, mark in fields(config) if path[0] == "diffusion" and not mark
    ]
    found = {path[1] for path, kind in stage_2 if moves(path, kind)}
    assert found == {"attention", "compile", "flip", "optimizer"}


def test_a_models_content_counts_and_not_its_path(plan, tmp_path, monkeypatch):
    def segments(config: Config) -> str:
        return fingerprints(plan, config)["segments"]

    def with_own(room: str, **own: Any) -> Config:
        changed_room = getattr(plan.config, room).model_copy(update=own)
        return plan.config.model_copy(update={room: changed_room})

    sam, vlm = tmp_path / "sam.pth", tmp_path / "vlm"
    vlm.mkdir()
    stated = default_config("segmenter=sam", f"segmenter.settings.checkpoint={sam}").segmenter
    reader = default_config("captioner=vlm", f"captioner.settings.model={vlm}").captioner
    (tmp_path / "my_segmenter.py").write_text("def everything(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    for file, config in (
        (sam, with_own("segmenter", settings=stated.settings)),
        (vlm / "config.json", with_own("captioner", name="vlm", settings=reader.settings)),
        (
            tmp_path / "my_segmenter.py",
            with_own("segmenter", target="my_segmenter:everything", settings={}),
        ),
    ):
        file.write_text("one")
        one = segments(config)
        file.write_text("other")
        assert segments(config) != one, file
        file.write_text("one")
        assert segments(config) == one, file


def test_the_servers_model_is_part_of_the_settings(monkeypatch):
    monkeypatch.setenv("OPENAI_MODEL", "reader-1")
    assert compose("captioner=openai").captioner.own()["model"] == "reader-1"


def test_what_images_are_shrunk_to_changes_segments_and_no_general_concepts(plan):
    segmenter = plan.config.segmenter.model_copy(update={"max_side": 512})
    before, after = (
        fingerprints(plan, plan.config),
        fingerprints(plan, plan.config.model_copy(update={"segmenter": segmenter})),
    )
    assert before["segments"] != after["segments"]
    assert before["contexts"] == after["contexts"]


def test_the_card_names_the_set(plan):
    """An export is not shared by sets that differ in their names only."""
    renamed = dataclasses.replace(plan.concepts, name="another")
    other = dataclasses.replace(plan, concepts=renamed)
    ours, theirs = fingerprints(plan, plan.config), fingerprints(other, plan.config)
    assert {name for name in ours if ours[name] != theirs[name]} == {"export"}


def test_what_enters_indirectly_is_known(plan):
    indirect = {".".join(path) for path, _, mark in fields(plan.config) if mark is INDIRECT}
    prior = {f"diffusion.prior.{name}" for name in type(plan.config.diffusion.prior).model_fields}
    guidances = {
        f"generation.{name}.{setting}"
        for name in get_args(Guidance)
        for setting in type(getattr(plan.config.generation, name)).model_fields
    }
    single = {"augmentation.background_share", "generation.prompts.source"}
    single |= {"diffusion.images_per_concept"}  # the number of steps enters
    single |= {"segmenter.max_side"}  # segments' fingerprint has it; contexts are not shrunk
    single |= {"diffusion.orthogonal_start"}  # a concept's own index enters
    single |= {f"dataset.{name}" for name in ("root", "names", "domain", "download")}
    beside = {
        f"evaluation.{name}.{setting}"
        for name in ("attention", "general_pairs")
        for setting in type(getattr(plan.config.evaluation, name)).model_fields
    }
    assert indirect == single | prior | guidances | beside | {"evaluation.redrawn"}


@pytest.mark.parametrize(
    ("guidance", "drawn", "not_drawn"),
    [
        (None, "generation_regional", "generation_plain"),
        ("regional", "generation_plain", "generation_regional"),
        ("composable", "generation_plain", "generation_regional"),
    ],
)
def test_what_is_drawn_again_is_an_artifact_that_evaluation_reads(plan, guidance, drawn, not_drawn):
    config = changed(plan.config, ("generation", "guidance"), guidance)
    before = fingerprints(plan, config)
    assert drawn in before and not_drawn not in before
    fewer = fingerprints(plan, changed(config, ("evaluation", "redrawn"), 2))
    assert {name for name in before if fewer[name] != before[name]} == {drawn, "evaluation"}
    none = fingerprints(plan, changed(config, ("evaluation", "redrawn"), 0))
    assert drawn not in none and none["evaluation"] != before["evaluation"]
    unjudged = changed(config, ("stages",), ("generation",))
    assert drawn not in fingerprints(plan, unjudged)


@pytest.mark.parametrize("name", ["attention", "general_pairs"])
def test_what_is_measured_beside_evaluation_has_artifacts_of_its_own(plan, name):
    config = changed(plan.config, ("evaluation", "general_pairs", "pairs"), 3)
    before = fingerprints(plan, config)
    for setting in type(getattr(config.evaluation, name)).model_fields:
        value = {"pairs": 1, "singles": 2, "between": [0.0, 0.5], "seeds": [7], "of": "species"}[
            setting
        ]
        found = fingerprints(plan, changed(config, ("evaluation", name, setting), value))
        differ = {artifact for artifact in before if found[artifact] != before[artifact]}
        assert differ == {artifact for artifact in before if artifact.startswith(name)}, setting
    none = ("singles", "pairs") if name == "attention" else ("pairs",)
    for setting in none:
        config = changed(config, ("evaluation", name, setting), 0)
    assert not [artifact for artifact in fingerprints(plan, config) if artifact.startswith(name)]


def test_runs_of_a_base_model_share_general_pairs_and_maps_by_class_word(plan):
    config = changed(plan.config, ("evaluation", "general_pairs", "pairs"), 3)
    before = fingerprints(plan, config)
    for path in (("seed",), ("contrastive", "steps"), ("diffusion", "stated_steps")):
        found = fingerprints(plan, changed(config, path, 7))
        for artifact in ("attention_class_word", "general_pairs_images", "general_pairs"):
            assert found[artifact] == before[artifact], path
        assert found["attention"] != before["attention"], path


@pytest.mark.parametrize("name", get_args(Guidance))
def test_a_guidance_and_its_settings_touch_only_what_it_draws(plan, name):
    plain = changed(plan.config, ("evaluation", "redrawn"), 0)
    plain = changed(plain, ("generation", "guidance"), None)
    before = fingerprints(plan, plain)
    guided = changed(plain, ("generation", "guidance"), name)
    found = fingerprints(plan, guided)
    differs = {key for key in found if found[key] != before[key]}
    assert {"generation", "evaluation"} <= differs
    assert not {key for key in differs if key.startswith("attention")}
    assert not {"generation_prior", "generation_class_word", "generation_stage1"} & differs
    assert ("export" in differs) == (name == "regional"), "what exports are drawn by"
    assert "prior_images" not in differs
    field = "scale" if name in ("attend_and_excite", "divide_and_bind") else "weight"
    weaker = changed(guided, ("generation", name, field), 0.5)
    assert fingerprints(plan, weaker)["generation"] != found["generation"]
    unused = changed(plain, ("generation", name, field), 0.5)
    assert fingerprints(plan, unused) == before


def test_prompts_of_a_file_enter_by_what_they_say_not_by_where_it_lies(plan, tmp_path):
    def of_file(name: str, text: str) -> dict[str, str]:
        (tmp_path / name).write_text(text)
        source = ("generation", "prompts", "source")
        return fingerprints(plan, changed(plan.config, source, str(tmp_path / name)))

    named = [f"a photo of <{name}>" for name in plan.concepts.names]
    before = of_file("a.txt", "\n".join(named))
    assert of_file("b.txt", "\n\n".join(["# comment", *named])) == before
    found = of_file("a.txt", "\n".join([*named, " and ".join(named)]))
    differs = {name for name in found if found[name] != before.get(name)}
    assert differs == {"generation", "generation_plain", "evaluation"}


def test_prior_images_depend_on_the_base_model_and_on_their_settings_only(plan, walked):
    config = changed(plan.config, ("diffusion", "prior_share"), 0.0)
    assert "prior_images" not in fingerprints(plan, config)
    before = fingerprints(plan, plan.config)
    for path, found in walked.items():
        if path[0] not in (*ROOMS, "seed"):
            continue
        of_prior = path[:2] == ("diffusion", "prior") and path[-1] != "batch_size"
        own = of_prior and path[-1] != "class_images"  # which are artifacts of their own
        same = {name: found.get(name) == before[name] for name in ("prior_images", "diffusion")}
        assert same["prior_images"] != own, path
        assert not (of_prior and same["diffusion"]), path
    real = dataclasses.replace(plan, base_fingerprint="another")
    assert fingerprints(real, plan.config)["prior_images"] != before["prior_images"]


def test_the_data_sets_own_settings_identify_it():
    dataset = settings("dataset")
    for path, kind, mark in fields(dataset):
        same = variant(dataset, path, kind).relevant() == dataset.relevant()
        assert same == (mark is not None), path


def test_every_choice_is_walked():
    known = {"segmenter": SEGMENTERS, "captioner": CAPTIONERS, "evaluation": READERS}
    assert {room: set(choices) for room, choices in CHOICES.items()} == {
        room: set(choices) for room, choices in known.items()
    }


@pytest.mark.parametrize(("room", "name"), CASES, ids=[name for _, name in CASES])
def test_the_settings_of_every_choice_keep_to_their_markers(room, name):
    model = getattr(default_config(*CHOICES[room][name]), room)
    for path, kind, mark in fields(model):
        same = variant(model, path, kind).relevant() == model.relevant()
        assert same == (mark is not None), path
