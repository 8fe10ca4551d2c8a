"""Prompts from files and from MuDI's pairs: what they become, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark_folders import customconcept101_lists, dreambench_table
from clif_exp.concepts.pairs import seen_pairs
from clif_exp.prompts.building import build_prompts
from clif_exp.prompts.mudi import FIVE, PAIRS
from clif_exp.prompts.sentences import divisible, in_words, left_to_right, sides_in
from clif_exp.prompts.sources import collect_prompts
from support import default_config, settings

CONCEPTS = {"rick": "man", "morty": "boy", "jerry": "man", "rex": "dog", "ann": "alien"}


def collected(*sources, concepts=CONCEPTS, aliases=None, prior=2, **changes):
    """The prompts of sources, and the notes."""
    changes |= {"source": [str(source) for source in sources], "prior": prior}
    chosen = settings("generation.prompts", **changes)
    return collect_prompts(concepts, aliases=aliases or {}, settings=chosen)


def own(tmp_path: Path, *lines: str, **changes):
    """The prompts of a text file."""
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(lines))
    return collected(file, **changes)[0]


def test_lines_become_single_multi_and_prior_prompts(tmp_path):
    single, multi, row, prior = own(
        tmp_path,
        "# what I want",
        "",
        "a photo of  <rick> on the beach ",
        "<morty> on the left and a red <ann> on the right",
        "<rick>, <morty> and <rex> in a row",
        "an empty beach",
    )
    assert (single.kind, single.layout, single.concepts) == ("single", "free", ("rick",))
    assert single.text == "a photo of <rick> on the beach"
    assert single.class_text == "a photo of a man on the beach"
    assert (single.context, single.seen, single.sides) == (None, None, None)
    assert (multi.kind, multi.layout, multi.concepts) == ("multi", "side", ("morty", "ann"))
    assert multi.sides == ("left", "right")
    assert multi.class_text == "a boy on the left and a red alien on the right"
    seen = seen_pairs(list(CONCEPTS))
    assert multi.seen == (frozenset(("morty", "ann")) in seen)
    assert (row.layout, row.sides) == ("row", ("0", "1", "2"))
    assert row.seen == all(
        frozenset(pair) in seen for pair in (("rick", "morty"), ("morty", "rex"), ("rick", "rex"))
    )
    assert (prior.kind, prior.text, prior.class_text) == ("prior", *["an empty beach"] * 2)


def test_ids_follow_from_the_text_alone(tmp_path):
    before = own(tmp_path, "<rick> and <rex>", "a photo of <ann>")
    after = own(tmp_path, "<ann> at night", "a photo of <ann>", "# -", "<rick> and <rex>")
    assert {p.text: p.id for p in before}.items() <= {p.text: p.id for p in after}.items()
    assert all(re.fullmatch(r"[\w-]+", prompt.id) for prompt in after)
    assert len({prompt.id for prompt in after}) == len(after)
    everyone = ", ".join(f"<{name}>" for name in CONCEPTS)
    assert own(tmp_path, everyone)[0].id.startswith("multi-rick-morty-jerry-and_2_more-")


def test_prior_prompts_are_built_unless_a_file_has_some(tmp_path):
    built = collected("built", prior=3)[0]
    assert own(tmp_path, "<rick>", prior=3)[1:] == [p for p in built if p.kind == "prior"]
    assert len(own(tmp_path, "<rick>", "a dog", prior=3)) == 2
    both, notes = collected("built", tmp_path / "mine.txt", prior=3)
    assert both[: len(built)] == built
    assert [prompt.text for prompt in both[len(built) :]] == ["<rick>", "a dog"]
    assert notes == [f"prompts of {tmp_path / 'mine.txt'}: 1 of one concept, 1 of none"]


def test_a_prompt_of_two_sources_is_drawn_once(tmp_path):
    built = collected("built")[0]
    own(tmp_path, built[0].text)
    assert collected("built", tmp_path / "mine.txt")[0] == built


def test_a_file_may_use_the_names_of_the_users_set(tmp_path):
    (prompt,) = own(
        tmp_path, "<cat> at night", concepts={"cat_1": "cat"}, aliases={"cat": "cat_1"}
    )[:1]
    assert (prompt.text, prompt.concepts) == ("<cat_1> at night", ("cat_1",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<rick> on the left and <rex> on the right", ("left", "right")),
        ("on the right <rick>, on the left <rex>", ("right", "left")),
        ("<rick> to the right of <rex>", ("right", "left")),
        ("<rick> left of <rex>", ("left", "right")),
        ("<rick> on the right side of the big <rex>", ("right", "left")),
        ("On the Right <rick>, on the Left <rex>", ("right", "left")),
        ("<rick> and <rex>", None),
        ("<rick> and <rex> on the left of a house", None),
        ("<rick> and <rex> on the left", None),
        ("a tree on the left, <rick> and <rex> on the right", None),
        ("<rick> on the left", None),
        ("<rick> and <rex> in a row", None),
        ("<rick>, <rex>, <rick> in a row", None),
        ("<rick>, <rex> and <ann> in a row at night", ("0", "1", "2")),
        ("nobody on the left and nobody on the right", None),
    ],
)
def test_sides_are_read_where_the_text_says_them(text, expected):
    assert sides_in(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<a> hugging <b> on the beach", ["a", "b"]),
        ("<a> on the right and <b> on the left", ["b", "a"]),
        ("<b> right of <a>", ["a", "b"]),
        ("<a>, <b> and <c> in a row", ["a", "b", "c"]),
        ("a drawing in the park of <a> and <b>", ["a", "b"]),
        ("<a> with <b>, shaking hands", ["a", "b"]),
        ("<a> and <b> behind a fence", ["a", "b"]),
        ("<a> and <b> on the beach", ["a", "b"]),
        ("<a> to the right of the tall <b>", ["b", "a"]),
        ("<a> Behind a smiling <b>", []),
        ("Behind <a> stands <b>", []),
        ("<a> with <b> on his back", []),
        ("<a> with <b> behind him at night", []),
        ("<a> riding on the back of the <b>", []),
        ("<a> in the arms of <b>", []),
        ("<a> carried by <b>", []),
        ("<a> wearing <b>", []),
        ("<a> next to <b>, in front of <c>", []),
        ("<a> between <b> and <c>", []),
        ("<a> on the right hugging <b>", []),
        ("to the left of <a> stands <b>", []),
        ("a photo of <a>", []),
        ("a photo of a dog", []),
    ],
)
def test_concepts_stand_from_left_to_right_unless_the_sentence_says_otherwise(text, expected):
    assert left_to_right(text) == expected


def test_prompts_that_can_be_divided_come_with_interactions_first():
    prompts = build_prompts(
        {"milo": "fox", "otto": "fox", "luna": "cat"},
        settings=settings("generation.prompts", pairs=3),
    )
    found = divisible(prompts, limit=5)
    assert len(found) == 5
    assert all(len(left_to_right(prompt.text)) == 2 for prompt in found)
    layouts = [prompt.layout for prompt in found]
    assert layouts.index("side") > 0
    assert "interaction" in layouts
    assert "interaction" not in layouts[layouts.index("side") :]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<rick> hugs <ann>", "a man hugs an alien"),
        ("the <rick>, my old <ann>", "the man, my old alien"),
        ("A <ann> and an <rick>", "An alien and a man"),
        ("on the left <rick>", "on the left a man"),
        ("a portrait of <rick>'s hat", "a portrait of a man's hat"),
        ("a dog chasing <ann>", "a dog chasing an alien"),
    ],
)
def test_class_words_get_an_article_where_they_have_none(text, expected):
    assert in_words(text, CONCEPTS) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["<rex>", "# x", "a <rik> here"], "line 3: <rik> is no concept of this run; did you mean"),
        (["<Rick>"], "line 1: <Rick> is no concept of this run; did you mean <rick>?"),
        (["<zzzz>"], "line 1: <zzzz> is no concept of this run; there are <rick>, <morty>,"),
        (["<>"], "line 1: <> is no concept"),
        (["a photo of <rick"], "line 1: '<' names no concept. Write concepts as <rick>"),
        (["a photo of {0} {1}"], "line 1: '{' names no concept"),
        (["<rex>", "<ann>", "<rex> "], "line 3: says the same as line 1. Remove one;"),
        (["# only this", ""], "mine.txt: holds no prompt. Write one per line"),
        ([], "mine.txt: holds no prompt"),
    ],
)
def test_a_line_that_does_not_do_is_refused_by_its_number(tmp_path, lines, expected):
    with pytest.raises(ValueError, match=re.escape(expected)) as refused:
        own(tmp_path, *lines)
    assert str(refused.value).startswith("mine.txt: ")
    assert "\n" not in str(refused.value)


def test_every_bad_line_is_said_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"line 1: <a>.*\n.*line 3: <b>"):
        own(tmp_path, "<a>", "<rick>", "<b>")


def test_dreambenchs_prompts_go_by_class_and_name_the_concept_alone(tmp_path):
    classes = {"dog6": "dog", "can": "can", "monster_toy": "toy"}
    file = dreambench_table(tmp_path, classes)
    prompts, notes = collected(file, concepts=classes, prior=0)
    assert [(p.text, p.class_text) for p in prompts if p.concepts == ("dog6",)] == [
        ("a <dog6> on the beach", "a dog on the beach"),
        ("a <dog6> wearing a red hat", "a dog wearing a red hat"),
        ("a wet <dog6>", "a wet dog"),
    ]
    assert [p.text for p in prompts if p.concepts == ("can",)] == [
        "a <can> on the beach",
        "a red <can>",
    ]
    assert len(prompts) == 3 + 2 + 2
    assert {prompt.kind for prompt in prompts} == {"single"}
    assert notes == [f"prompts of {file}: 7 of one concept"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("'a wet {0} {1}'", "'a wet {0 {1}'", "line 20: ''a wet {0 {1}'.format(unique_token"),
        ("'a wet {0} {1}'", "'a wet {0} {2}'", "line 20: "),
        ("'a wet {0} {1}'", "'a wet {1} {0}'", "line 20: "),
        ("'a wet {0} {1}'.format", "'a wet {0} {1}", "line 20: "),
        ("Live Subject Prompts", "Others", "holds no prompts under 'Live Subject Prompts'"),
    ],
)
def test_a_broken_dreambench_file_is_refused(tmp_path, before, after, expected):
    file = dreambench_table(tmp_path, {"can": "can"})
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(ValueError, match=r"^prompts_and_classes\.txt: ") as refused:
        collected(file, concepts={"can": "can"})
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_customconcept101_has_prompts_for_concepts_and_for_pairs(tmp_path):
    classes = {"pet_cat1": "cat", "pet_dog1": "dog", "toy_bear": "bear"}
    single, multi = customconcept101_lists(tmp_path, classes)
    here = {"pet_cat1": "cat", "pet_dog1": "dog"}
    prompts, notes = collected(single, multi, concepts=here, prior=0)
    assert [(p.kind, p.text, p.class_text) for p in prompts] == [
        ("single", "Photo of a <pet_cat1>.", "Photo of a cat."),
        ("single", "<pet_cat1> on the beach.", "cat on the beach."),
        ("single", "Photo of a <pet_dog1>.", "Photo of a dog."),
        ("single", "<pet_dog1> on the beach.", "dog on the beach."),
        ("multi", "the <pet_cat1> and <pet_dog1> on the beach.", "the cat and dog on the beach."),
        (
            "multi",
            "<pet_dog1> on the left and <pet_cat1> on the right.",
            "dog on the left and cat on the right.",
        ),
    ]
    assert (prompts[-1].concepts, prompts[-1].sides) == (
        ("pet_dog1", "pet_cat1"),
        ("left", "right"),
    )
    assert all(prompt.seen for prompt in prompts[4:]), "one pair is always seen"
    assert "prompts/two.txt: line 3 names one concept twice, left out: {0} near {0}." in notes


@pytest.mark.parametrize(
    ("file", "before", "after", "expected"),
    [
        (
            "prompts/one.txt",
            "{} on",
            "{0} on",
            "prompts/one.txt: line 2: '{0} on the beach.' is no",
        ),
        ("prompts/one.txt", "{} on", "It on", "prompts/one.txt: line 2: 'It on the beach.' is no"),
        ("prompts/two.txt", "{1} on", "{2} on", "prompts/two.txt: line 2: "),
        ("dataset.json", "prompts/one", "prompts/gone", "'prompts/gone.txt' does not exist below"),
        ("dataset.json", "prompt_filename", "prompts", "dataset.json: entry 1 has no"),
        ("dataset.json", "[", "[[", "dataset.json: is not valid JSON"),
        ("dataset.json", "benchmark_dataset/pet", "x/other", "dataset.json: lists no concept of"),
        (
            "dataset_multiconcept.json",
            "benchmark_dataset/pet",
            "x/other",
            "dataset_multiconcept.json: lists no pair of this run, which has pet_cat1, pet_dog1",
        ),
    ],
)
def test_a_broken_customconcept101_file_is_refused(tmp_path, file, before, after, expected):
    classes = {"pet_cat1": "cat", "pet_dog1": "dog"}
    single, multi = customconcept101_lists(tmp_path, classes)
    (tmp_path / file).write_text((tmp_path / file).read_text().replace(before, after))
    with pytest.raises(ValueError, match=re.escape(expected)):
        collected(single, multi, concepts=classes)


def test_mudis_pairs_are_asked_for_as_far_as_they_are_there():
    concepts = {"can_1": "can", "monster_toy": "toy", "robot_toy": "toy", "teapot": "teapot"}
    prompts, _ = collected("mudi", concepts=concepts, aliases={"can": "can_1"}, prior=0)
    pairs = {p.concepts for p in prompts if len(p.concepts) == 2}
    assert pairs == {("monster_toy", "robot_toy"), ("can_1", "monster_toy")}
    plain, *in_places = [p for p in prompts if p.concepts == ("can_1", "monster_toy")]
    assert plain.text == "a photo of <can_1> and <monster_toy>"
    assert plain.class_text == "a photo of a can and a toy"
    assert all(p.text == f"{plain.text} {p.context}" for p in in_places)
    assert {p.layout for p in in_places} == {"context"}
    (row,) = [p for p in prompts if len(p.concepts) > 2]
    assert row.text == "a photo of <can_1>, <monster_toy> and <robot_toy> in a row"
    assert row.sides == ("0", "1", "2")


def test_mudis_subjects_make_eight_pairs_a_three_and_a_five():
    concepts = {name: "toy" for pair in PAIRS for name in pair}
    prompts, _ = collected("mudi", concepts=concepts, prior=0)
    assert {p.concepts for p in prompts if len(p.concepts) == 2} == set(PAIRS)
    assert [p.concepts for p in prompts if len(p.concepts) > 2] == [FIVE[:3], FIVE]
    short = {"castle": "castle", "lighthouse": "lighthouse"}
    assert collected("mudi", concepts=short, prior=0)[0][0].concepts == ("castle", "lighthouse")
    with pytest.raises(ValueError, match=r"found 'mudi', but the set has none of its pairs"):
        collected("mudi")


def test_a_source_that_is_not_there_is_refused(tmp_path):
    for source, found in ((tmp_path, "is a folder"), ("bilt", "does not exist"), ("x" * 999, "")):
        with pytest.raises(ValueError, match=rf"generation\.prompts\.source: '.*' {found}"):
            collected(source)
    for source in ("[]", "''", "[built,'']"):
        with pytest.raises(ValueError, match=r"generation\.prompts\.source: found .* use built"):
            default_config(f"generation.prompts.source={source}")
