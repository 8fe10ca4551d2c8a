"""Confusion against distance: the ranks of pairs, of a run's concepts and of general ones."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from clif_exp.base_models.spec import BaseModels, packaged_weights, resolve
from clif_exp.evaluation.correlation import confusion_by_distance, write_correlation
from clif_exp.evaluation.distance import measure_words
from clif_exp.evaluation.figures import Figure
from clif_exp.evaluation.general_pairs import (
    general_pair_prompts,
    general_pairs,
    judge_general_pairs,
)
from clif_exp.evaluation.settings import GeneralPairsSettings, OracleSettings
from clif_exp.toonworld.grammar import VOCABULARY
from clif_exp.toonworld.names import named_characters
from clif_exp.toonworld.world import FAMILY_OF
from support import settings

NAMES = ["a", "b", "c"]
NEAR_TO_FAR = [[0.0, 0.1, 0.2], [0.1, 0.0, 0.3], [0.2, 0.3, 0.0]]


def pairs(*confusion):
    return {
        pair: {"confusion": value, "leaked": 0.0, "pictures": 4.0}
        for pair, value in zip(("a|b", "a|c", "b|c"), confusion)
    }


@pytest.mark.parametrize(
    ("confusion", "rho"), [((0.9, 0.8, 0.1), -1.0), ((0.1, 0.2, 0.3), 1.0), ((0.5, 0.0, 0.5), 0.0)]
)
def test_ranks_are_correlated(confusion, rho):
    distances = {"rows": {"matrix": NEAR_TO_FAR}}
    found = confusion_by_distance(pairs(*confusion), names=NAMES, distances=distances)
    assert found["spearman"]["rows"]["confusion"]["rho"] == pytest.approx(rho)
    assert found["spearman"]["rows"]["leaked"] is None, "all are alike"
    assert found["pairs"]["b|c"] == {
        "confusion": confusion[2],
        "leaked": 0.0,
        "pictures": 4.0,
        "rows": 0.3,
    }


def test_two_pairs_have_no_correlation():
    few = dict(list(pairs(0.1, 0.2, 0.3).items())[:2])
    found = confusion_by_distance(few, names=NAMES, distances={"rows": {"matrix": NEAR_TO_FAR}})
    assert found["spearman"] == {"rows": {"confusion": None, "leaked": None}}


def test_a_runs_concepts_are_measured_as_they_are_after_the_last_stage(tmp_path):
    (tmp_path / "confusion_matrix.json").write_text(
        json.dumps({"multi": {"pairs": pairs(1, 0, 0)}})
    )
    write_correlation(tmp_path)
    assert not (tmp_path / "distance_confusion.json").exists(), "nothing was trained"
    flat = [[0.0] * 3] * 3
    stages = {"before": {"rows": {"matrix": flat}}, "after": {"rows": {"matrix": NEAR_TO_FAR}}}
    (tmp_path / "distances.json").write_text(json.dumps({"names": NAMES, "stages": stages}))
    write_correlation(tmp_path)
    found = json.loads((tmp_path / "distance_confusion.json").read_text())
    assert [point["rows"] for point in found["pairs"].values()] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("of", ["species", "names"])
def test_general_pairs_are_of_likes_and_others_and_more_keep_those_before(of):
    most = GeneralPairsSettings.MOST[of]
    few, all_ = general_pairs(of, count=6), general_pairs(of, count=most)
    assert few == all_[:6]
    assert len({frozenset(pair) for pair in all_}) == len(all_) == most
    looks = named_characters()
    group = FAMILY_OF if of == "species" else {name: looks[name].species for name in looks}
    assert [group[a] == group[b] for a, b in few] == [True, False] * 3
    prompts = general_pair_prompts(of, count=6)
    assert len({prompt.id for prompt in prompts}) == 12
    for prompt in prompts:
        assert set(prompt.text.split()) <= set(VOCABULARY)


@pytest.mark.parametrize("of", ["species", "names"])
def test_what_the_oracle_reads_becomes_points(of, tmp_path, monkeypatch):
    """The reader is given what it would find: of the first pair right, of the second one twice."""
    spec = resolve(BaseModels("toonworld", str(packaged_weights()), resolution=128))
    prompts = general_pair_prompts(of, count=2)
    (tmp_path / "images").mkdir()
    lines = []
    for index, prompt in enumerate(prompts):
        file = f"images/{index}.png"
        Image.new("L", (8, 8), index).save(tmp_path / file)
        fields = prompt.to_json()
        lines.append({"file": file, "prompt_id": fields.pop("id"), **fields})
    (tmp_path / "generations.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    boxes = ((0.1, 0.2, 0.4, 0.9), (0.6, 0.2, 0.9, 0.9))

    class Faultless:
        def read(self, images):
            numbers = [image.getpixel((0, 0))[0] for image in images]
            figures = [prompts[number].expected for number in numbers]
            shown = [(a, b) if number < 2 else (a, a) for number, (a, b) in zip(numbers, figures)]
            return [[Figure(box, 1.0, slots) for box, slots in zip(boxes, two)] for two in shown]

    monkeypatch.setattr(OracleSettings, "build", lambda *_: Faultless())
    judge_general_pairs(
        tmp_path / "out",
        images=tmp_path,
        spec=spec,
        settings=settings("evaluation", batch_size=3),
    )
    found = json.loads((tmp_path / "out" / "distance_confusion.json").read_text())["pairs"]
    right, wrong = ("|".join(sorted(pair)) for pair in general_pairs(of, count=2))
    assert (found[right]["confusion"], found[right]["leaked"]) == (0.0, 0.0)
    assert (found[wrong]["confusion"], found[wrong]["leaked"]) == (1.0, 0.5)
    assert found[right]["pictures"] == 2
    assert 0 < found[right]["contextual"] < 2


def test_words_are_as_far_apart_as_their_rows(backbones):
    found = measure_words(backbones("sd15"), ["man", "woman", "cat"])
    assert set(found) == {"rows", "contextual", "keys_values"}
    matrix = found["rows"]["matrix"]
    assert matrix[0][1] == matrix[1][0] > 0 == matrix[2][2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"reader": {"kind": "none"}, "pairs": 3},
            r"pairs\.pairs: found 3 with .*kind=none",
        ),
        ({"of": "species", "pairs": 106}, r"pairs: found 106, but there are 105 pairs of species"),
    ],
)
def test_general_pairs_that_nobody_can_judge_or_draw_are_refused(changes, message):
    asked = {"of": "names", "seeds": [0]} | {k: v for k, v in changes.items() if k != "reader"}
    reader = {"reader": changes["reader"]} if "reader" in changes else {}
    with pytest.raises(ValueError, match=message):
        settings("evaluation", general_pairs=asked, **reader)
