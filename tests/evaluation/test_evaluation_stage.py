"""The stage on drawn images, with untrained judges of ToonWorld's shapes and a faultless reader."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from clif_exp.base_models.spec import BaseModels, resolve
from clif_exp.concepts.reading import read_concept_set
from clif_exp.evaluation import stage
from clif_exp.evaluation.figures import Figure
from clif_exp.evaluation.settings import READERS, OracleSettings
from clif_exp.prompts.evaluation import EvaluationPrompt, in_class_words
from clif_exp.runs.composing import compose
from clif_exp.toonworld.cast import default_cast, write_cast
from clif_exp.toonworld.drawing.render import render
from clif_exp.toonworld.grammar import truth as visible_truth
from clif_exp.toonworld.placing import place_pair
from clif_exp.toonworld.world import Figure as Placed
from clif_exp.toonworld.world import Scene
from support import settings

CAST = default_cast()
EXAMPLES = {
    "path": None,
    "min_score": 0.1,
    "queries": ["a person"],
    "detector": "owner/owl",
    "features": "owner/dino",
    "leak_margin": 0.05,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Untrained ToonWorld models and a cast of two look-alikes."""
    from clif_exp.toonworld.architectures import write_random_weights

    root = tmp_path_factory.mktemp("world")
    write_random_weights(root / "weights")
    write_cast(root / "cast", size=2)
    return resolve(
        BaseModels("toonworld", str(root / "weights"), resolution=128)
    ), read_concept_set(root / "cast")


def draw(folder, jobs):
    """Write images as a generation artifact does; return what a faultless reader sees in each."""
    (folder / "images").mkdir(parents=True)
    lines, seen = [], {}
    for prompt, characters in jobs:
        if len(characters) == 2:
            figures = place_pair(np.random.default_rng(0), *characters, "left of")
        else:
            figures = tuple(Placed(character, 0.5, 0.95, 0.65) for character in characters)
        scene = Scene(figures, "meadow")
        rendering = render(scene)
        file = f"images/{prompt.id}.png"
        Image.fromarray(rendering.image).save(folder / file)
        boxes = [tuple(side / 128 for side in box) for box in rendering.boxes]
        seen[rendering.image.tobytes()] = [
            Figure(b, 1.0, a) for b, a in zip(boxes, visible_truth(scene, rendering), strict=True)
        ]
        fields = prompt.to_json()
        named = {
            "prompt_id": fields.pop("id"),
            "prompt": fields.pop("text"),
            "text_for_alignment": fields.pop("class_text"),
        }
        lines.append(json.dumps({"file": file, **fields, **named, "seed": 0}))
    (folder / "generations.jsonl").write_text("\n".join(lines) + "\n")
    return seen


@pytest.fixture(scope="module")
def judged(world, tmp_path_factory):
    spec, concepts = world
    root = tmp_path_factory.mktemp("judged")
    milo, otto = CAST["milo"], CAST["otto"]

    def multi(name, seen, characters, sides=("left", "right")):
        text = "a photo of <milo> on the left and <otto> on the right"
        words = "a photo of a fox on the left and a fox on the right"
        return (
            EvaluationPrompt(
                name, text, "multi", "side", ("milo", "otto"), words, sides, seen=seen
            ),
            characters,
        )

    cat = replace(milo, species="cat")
    prior = EvaluationPrompt(
        "prior",
        "a photo of a cat",
        "prior",
        "free",
        (),
        "a photo of a cat",
        expected=({"species": "cat"},),
    )
    jobs = [
        (
            EvaluationPrompt(
                "s-milo", "a photo of <milo>", "single", "free", ("milo",), "a photo of a fox"
            ),
            (milo,),
        ),
        (
            EvaluationPrompt(
                "s-otto", "a photo of <otto>", "single", "free", ("otto",), "a photo of a fox"
            ),
            (otto,),
        ),
        multi("m-right", True, (milo, otto)),
        multi("m-hats", False, (replace(milo, hat=otto.hat, hat_colour=otto.hat_colour), otto)),
        (prior, (milo,)),
    ]
    seen = draw(root / "after", jobs) | draw(root / "before", [(prior, (cat,))])
    # Stage 1's tokens draw milo rightly and otto bare-headed; class words draw a cat, and somebody
    # who has nothing in common with otto.
    bare = replace(otto, hat="none", hat_colour="none")
    seen |= draw(root / "stage1", [(jobs[0][0], (milo,)), (jobs[1][0], (bare,))])
    # Regional guidance draws the pair rightly whose hats were wrong.
    seen |= draw(root / "regional", [(jobs[3][0], (milo, otto))])
    words = in_class_words([jobs[0][0], jobs[1][0]])
    seen |= draw(root / "class_word", [(words[0], (cat,)), (words[1], (CAST["luna"],))])

    class Faultless:
        def read(self, images):
            return [seen[np.asarray(image).tobytes()] for image in images]

        def embed(self, _images):
            return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OracleSettings, "build", lambda *_: Faultless())
        stage.evaluate(
            root / "out",
            generations=root / "after",
            prior_before=root / "before",
            class_word=root / "class_word",
            stage_1=root / "stage1",
            redrawn={"regional": root / "regional"},
            concepts=concepts,
            dataset_root=concepts.root,
            spec=spec,
            settings=settings("evaluation", batch_size=2),
        )
    return root / "out"


def test_metrics_have_the_designs_names_and_the_right_values(judged):
    metrics = json.loads((judged / "metrics.json").read_text())
    shared = (
        "text_alignment",
        "image_alignment",
        "identity",
        "attribute_binding",
        "attendance",
        "duplicates",
    )
    assert {f"{kind}/{name}" for kind in ("single", "multi") for name in shared} <= set(metrics)
    assert metrics["single/identity"] == metrics["multi/attendance"] == metrics["multi/side"] == 1.0
    # One of four figures shows two of the other's six.
    assert metrics["multi/leakage"] == pytest.approx(2 / 6 / 4)
    assert (
        metrics["multi/confusion"],
        metrics["multi/pairs_seen/confusion"],
        metrics["multi/pairs_unseen/confusion"],
    ) == (0.5, 0.0, 1.0)
    assert (metrics["prior/identity"], metrics["prior_before/identity"]) == (0.0, 1.0)
    assert metrics["multi/layout_side/pictures"] == 2
    assert metrics["multi/detect_and_compare"] == pytest.approx(
        (
            metrics["multi/pairs_seen/detect_and_compare"]
            + metrics["multi/pairs_unseen/detect_and_compare"]
        )
        / 2
    )


def test_what_the_base_model_draws_by_class_words_and_by_stage_1_is_measured(judged):
    metrics = json.loads((judged / "metrics.json").read_text())
    assert metrics["stage1/identity"] == pytest.approx((1 + 9 / 11) / 2), "a hat and its colour"
    assert metrics["stage1/identity"] < metrics["single/identity"] == 1.0
    assert (metrics["stage1/attendance"], metrics["class_word/attendance"]) == (1.0, 0.5)
    assert metrics["class_word/identity"] < 1.0
    for name in ("attribute_binding", "text_alignment", "image_alignment", "pictures"):
        assert metrics[f"stage1/{name}"] is not None
        assert metrics[f"class_word/{name}"] is not None
    assert metrics["single/pictures"] == metrics["stage1/pictures"] == 2


def test_every_image_has_a_line_and_every_concept_thumbnails(judged):
    lines = [json.loads(line) for line in (judged / "per_image.jsonl").read_text().splitlines()]
    groups = ["single"] * 2 + ["multi"] * 2 + ["prior", "prior_before"]
    groups += ["class_word"] * 2 + ["stage1"] * 2 + ["regional"]
    assert [line["group"] for line in lines] == groups
    assert len({(line["group"], line["file"]) for line in lines}) == len(lines)
    assert [line["judgement"]["confused"] for line in lines[2:4]] == [
        False,
        True,
    ]
    assert lines[3]["judgement"]["leaks"]["milo>otto"] == [2, 6]
    assert not lines[-1]["judgement"]["confused"], "the same prompt, drawn again"
    metrics = json.loads((judged / "metrics.json").read_text())
    assert metrics["multi/pictures"] == 2
    assert not [name for name in metrics if name.startswith("regional")]
    assert (judged / "references" / "milo" / "0.png").exists()
    matrix = json.loads((judged / "confusion_matrix.json").read_text())
    assert matrix["multi"]["nearest"] == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert matrix["multi"]["attendance"] == {"milo": 1.0, "otto": 1.0}


def test_a_set_without_truth_is_still_aligned(world, tmp_path):
    spec, concepts = world
    seen = draw(
        tmp_path / "after",
        [(EvaluationPrompt("s", "<milo>", "single", "free", ("milo",), "a fox"), (CAST["milo"],))],
    )
    assert seen
    arguments = {
        "generations": tmp_path / "after",
        "prior_before": None,
        "concepts": concepts,
        "dataset_root": tmp_path,
        "spec": spec,
    }
    aligned = settings("evaluation", reader={"kind": "none"})
    stage.evaluate(tmp_path / "out", **arguments, settings=aligned)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["single/image_alignment"] is not None
    assert "single/identity" not in metrics


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.reader.kind=eyes", r"evaluation\.reader\.kind.*eyes"),
        ("evaluation.identity_threshold=75", r"evaluation\.identity_threshold.*75"),
        ("evaluation.batch_size=0", r"evaluation\.batch_size.*0"),
    ],
)
def test_bad_settings_are_refused_with_their_field(override, message):
    with pytest.raises(ValueError, match=message):
        compose(override)


@pytest.mark.parametrize("field", ["judge", "reader"])
def test_missing_models_are_refused_before_anything_runs(world, field):
    given = getattr(settings("evaluation"), field).model_dump() | {"path": "/nowhere"}
    with pytest.raises(ValueError, match=rf"evaluation\.{field}\.path: /nowhere"):
        stage.check_settings(world[0], settings("evaluation", **{field: given}))


def test_stage_ones_own_clip_is_refused(world):
    judge = settings("evaluation").judge.model_dump() | {
        "path": world[0].contrastive["text_encoder"]
    }
    with pytest.raises(ValueError, match="its scores would be biased"):
        stage.check_settings(world[0], settings("evaluation", judge=judge))


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_is_chosen_by_its_kind_and_builds_itself(kind):
    own = {name: field for name, field in EXAMPLES.items() if name in READERS[kind].model_fields}
    reader = settings("evaluation", reader={"kind": kind, **own}).reader
    assert type(reader) is READERS[kind]
    assert callable(reader.build) and callable(reader.check)
