"""Figures of ToonWorld's cast, drawn and read without error, and the metrics of such images."""

from __future__ import annotations

import numpy as np

from clif_exp.evaluation import confusion
from clif_exp.evaluation.accumulate import RunMetrics
from clif_exp.evaluation.confusion import judge_image
from clif_exp.evaluation.figures import Figure
from clif_exp.evaluation.scoring import Row
from clif_exp.toonworld.cast import default_cast
from clif_exp.toonworld.drawing.render import render
from clif_exp.toonworld.grammar import truth as visible_truth
from clif_exp.toonworld.placing import place_pair
from clif_exp.toonworld.world import Character, Scene
from clif_exp.toonworld.world import Figure as Placed

CAST = default_cast()
MILO, OTTO, LUNA = CAST["milo"], CAST["otto"], CAST["luna"]
TRUTH = {name: character.attributes() for name, character in CAST.items()}
SIDES = ("left", "right")
DIFFERING = [slot for slot in TRUTH["milo"] if TRUTH["milo"][slot] != TRUTH["otto"][slot]]


def read(*characters: Character, interaction: str = "left of") -> list[Figure]:
    """Draw characters from left to right (or a pair that interacts) and read them without error."""
    if len(characters) == 2:
        figures = place_pair(np.random.default_rng(0), *characters, interaction)
    else:
        places = (np.arange(len(characters)) + 0.5) / len(characters)
        figures = tuple(
            Placed(character, float(x), 0.95, 0.4)
            for character, x in zip(characters, places, strict=True)
        )
    scene = Scene(figures, "meadow", interaction)
    rendering = render(scene)
    size = rendering.image.shape[0]
    boxes = [tuple(side / size for side in box) for box in rendering.boxes if box is not None]
    return [
        Figure(box, 1.0, slots)
        for box, slots in zip(boxes, visible_truth(scene, rendering), strict=True)
    ]


def metrics(
    *judgements: confusion.Judgement, singles: tuple[confusion.Judgement, ...] | None = None
) -> dict[str, float | None]:
    """The metrics of images with several concepts, by their names without the group.

    Args:
        judgements: of these images.
        singles: of images of one concept; None: of perfect ones.
    """
    if singles is None:
        singles = tuple(
            judge(read(CAST[name]), None, named=(name,), others=list(TRUTH))
            for name in ("milo", "otto", "luna")
        )
    run = RunMetrics(names=list(CAST), layouts=["side"])
    for kind, found in (("single", singles), ("multi", judgements)):
        run.update(
            [Row({"kind": kind, "layout": "side"}, {}, [], judgement) for judgement in found]
        )
    return {
        name.removeprefix("multi/"): value
        for name, value in run.compute().items()
        if name.rpartition("/")[0] == "multi" and name != "multi/pictures"
    }


def judge(
    figures: list[Figure],
    sides: tuple[str, ...] | None = SIDES,
    *,
    named: tuple[str, ...] = ("milo", "otto"),
    others: list[str] | None = None,
) -> confusion.Judgement:
    return judge_image(
        figures,
        named,
        truth=TRUTH,
        sides=sides,
        others=others,
        presence_threshold=0.5,
        identity_threshold=0.75,
    )
