"""What happens before anything expensive runs: the data set, and what is said about it."""

from __future__ import annotations

import logging

import pytest

from clif_exp.artifacts.store import ArtifactStore
from clif_exp.concepts.reading import read_concept_set
from clif_exp.concepts.settings import CAST
from clif_exp.runs.preparation import materialise_dataset
from support import concepts_yaml, settings, write_image


def test_a_data_set_without_a_size_is_the_whole_cast(tmp_path):
    dataset = materialise_dataset(ArtifactStore(tmp_path), settings("dataset", size=None))
    assert len(read_concept_set(dataset.path, size=None).concepts) == CAST


def test_a_users_concepts_are_all_taught_under_debug_and_their_captions_accounted_for(
    tmp_path, base_models, caplog
):
    from clif_exp.runs.composing import compose
    from clif_exp.runs.pipeline import prepare

    for name in "abc":
        write_image(tmp_path / "set" / f"{name}.png", size=(64, 64))
    concepts_yaml(
        tmp_path / "set",
        "concepts:\n"
        "  - {name: rick, class_word: man, images: [a.png], captions: ['<rick> at night']}\n"
        "  - {name: morty, class_word: boy, images: [b.png], captions: [a boy on the beach]}\n"
        "  - {name: summer_1, class_word: girl, images: [c.png], captions: ['<rick>']}\n",
    )
    store = f"artifacts.root={tmp_path / 'store'}"
    folder = ("dataset=folder", f"dataset.root={tmp_path / 'set'}")
    with caplog.at_level(logging.INFO, logger="clif_exp"):
        plan = prepare(compose("debug=fast", *folder, *base_models, store))
    assert plan.concepts.names == ("rick", "morty", "summer_1")
    (line,) = [line for line in caplog.messages if line.startswith("captions:")]
    assert line == (
        "captions: 1 used as they are, 1 rewritten, 1 left out; rewritten as 'a boy on the beach'"
        " -> '<morty> on the beach'; left out: c.png names rick, but not summer_1"
    )


def test_what_a_part_of_an_image_reads_has_to_fit_too_where_images_are_drawn_by_region(
    tmp_path, base_models
):
    from clif_exp.runs.composing import compose
    from clif_exp.runs.pipeline import prepare

    for name in "ab":
        write_image(tmp_path / "set" / f"{name}.png", size=(64, 64))
    concepts_yaml(
        tmp_path / "set",
        "concepts:\n"
        "  - {name: rick, class_word: man, images: [a.png]}\n"
        "  - {name: morty, class_word: red hair man, images: [b.png]}\n",
    )
    (tmp_path / "prompts.txt").write_text("<rick>" + " and <rick>" * 20 + " and <morty>")
    given = [f"dataset.root={tmp_path / 'set'}", "dataset=folder", "dataset.domain=toonworld"]
    given += [f"generation.prompts.source={tmp_path / 'prompts.txt'}", *base_models]
    given += ["method=dreambooth", "augmentation.region.num_pairs=0"]
    with pytest.raises(ValueError, match=r"\.\.\.', read in a part of its image by"):
        prepare(compose(*given))
    prepare(compose(*given, "generation.guidance=null", "evaluation.redrawn=0"))


def test_region_augmentation_without_parts_is_refused_before_anything_is_segmented(
    tmp_path, base_models
):
    from clif_exp.runs.composing import compose
    from clif_exp.runs.pipeline import prepare

    write_image(tmp_path / "rick man" / "a.png", size=(64, 64))
    given = ["dataset=folder", f"dataset.root={tmp_path}", "dataset.domain=toonworld", *base_models]
    with pytest.raises(ValueError, match=r"augmentation\.region: no concept lists parts"):
        prepare(compose(*given))
    assert prepare(compose(*given, "augmentation.region.num_pairs=0")).concepts.names == ("rick",)


def test_a_concept_that_a_casts_truth_lacks_is_refused(tmp_path, base_models):
    """One of the user's own, added to a cast: it would end the run after its training."""
    from clif_exp.runs.composing import compose
    from clif_exp.runs.pipeline import prepare

    for name in "ab":
        write_image(tmp_path / f"{name}.png", size=(64, 64))
    concepts_yaml(
        tmp_path,
        "concepts:\n"
        "  - {name: milo, class_word: man, images: [a.png], parts: [hat]}\n"
        "  - {name: mine, class_word: boy, images: [b.png], parts: [hat]}\n",
    )
    (tmp_path / "truth.json").write_text('{"milo": {}}')
    given = ["dataset=folder", f"dataset.root={tmp_path}", "dataset.domain=toonworld", *base_models]
    with pytest.raises(ValueError, match=r"truth\.json: says nothing of 'mine'"):
        prepare(compose(*given))
    assert prepare(compose(*given, "stages=[curation]")).concepts.names == ("milo", "mine")


def test_two_men_whom_nothing_tells_apart_are_refused(tmp_path, base_models):
    from clif_exp.runs.composing import compose
    from clif_exp.runs.pipeline import prepare

    for name, class_word in {"rick": "man", "morty": "boy", "jerry": "man"}.items():
        write_image(tmp_path / f"{name} {class_word}" / f"{name}.png", size=(64, 64))
    given = ["dataset=folder", f"dataset.root={tmp_path}", *base_models, "method=mix_only"]
    frozen = [*given, "diffusion.train_embeddings=false"]
    with pytest.raises(ValueError, match=r"train_embeddings: .*<\w+> and <\w+> both .*'man'"):
        prepare(compose(*frozen))
    prepare(compose(*given))
    prepare(compose(*frozen, "diffusion.initial_words=rare_words"))
    prepare(compose(*frozen, "dataset.names=[rick,morty]"))


def test_images_per_concept_are_the_same_whether_concepts_train_together_or_apart(
    tmp_path, base_models
):
    from clif_exp.runs.composing import compose
    from clif_exp.runs.pipeline import prepare

    given = ["debug=fast", *base_models, f"artifacts.root={tmp_path}", "dataset.size=2"]
    budget = ["diffusion.steps=null", "diffusion.images_per_concept=80"]
    together = prepare(compose(*given, *budget)).config.diffusion
    apart = prepare(compose(*given, *budget, "method=mix_of_show")).config.diffusion
    assert together.steps * together.batch_size == 80 * 2
    assert apart.steps * apart.batch_size == 80
    stated = prepare(compose(*given, "diffusion.steps=40")).config.diffusion
    assert stated.relevant() == together.relevant()
