"""The share of concepts with which nothing is wrong, on drawn scenes and by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clif_exp.evaluation import confusion
from clif_exp.evaluation.accumulate import RunMetrics
from clif_exp.evaluation.figures import NOT_VISIBLE, Figure
from clif_exp.evaluation.scoring import Row
from drawn_figures import CAST, DIFFERING, MILO, OTTO, SIDES, TRUTH, judge, metrics, read


def with_wrong_slots(figure: Figure, count: int) -> Figure:
    """Show values of nobody in some slots, so that identity falls and nothing leaks."""
    wrong = dict.fromkeys(list(figure.attributes)[:count], "nobody's")
    return replace(figure, attributes=figure.attributes | wrong)


@pytest.mark.parametrize("sides", [SIDES, None])
@pytest.mark.parametrize(
    ("figures", "share"),
    [
        (read(MILO, OTTO), 1.0),
        ([], 0.0),
        (read(MILO), 1 / 2),  # Otto is missing
        (read(MILO, OTTO, OTTO), 1 / 2),  # Otto is there twice
        (read(MILO, MILO), 0.0),  # Otto is missing and Milo there twice
        # Otto wears Milo's hat, Milo his own
        (read(MILO, replace(OTTO, hat=MILO.hat, hat_colour=MILO.hat_colour)), 1 / 2),
        # 9 and 8 of 11 attributes: above and below the threshold of 0.75
        ([with_wrong_slots(read(MILO)[0], 2), read(MILO, OTTO)[1]], 1.0),
        ([with_wrong_slots(read(MILO)[0], 3), read(MILO, OTTO)[1]], 1 / 2),
    ],
)
def test_intact_is_the_share_of_the_concepts_with_which_nothing_is_wrong(figures, share, sides):
    found = metrics(judge(figures, sides))
    assert found["intact"] == pytest.approx(share)
    assert found["confusion"] == float(share < 1), "the same, all or nothing"


def test_a_surplus_figure_that_could_stand_for_both_leaves_neither_intact():
    shared = {slot: TRUTH["milo"][slot] for slot in TRUTH["milo"] if slot not in DIFFERING}
    either = Figure((0.45, 0.2, 0.55, 0.9), 1.0, dict.fromkeys(DIFFERING, NOT_VISIBLE) | shared)
    judgement = judge([*read(MILO, OTTO), either], sides=None)
    assert judgement.duplicates == 1
    assert confusion.intact(judgement) == {(): 0.0}


def test_a_reader_that_compares_counts_its_likenesses():
    named = ("milo", "otto")
    figures = [
        Figure((0.1, 0.2, 0.4, 0.9), 1.0, {}, likeness={"milo": 0.9, "otto": 0.2}),
        Figure((0.6, 0.2, 0.9, 0.9), 1.0, {}, likeness={"milo": 0.3, "otto": 0.8}),
    ]
    leaky = replace(figures[1], likeness=figures[1].likeness | {"otto>milo": 0.1})
    faint = replace(figures[0], likeness={"milo": 0.7, "otto": 0.2})
    for view, share in (
        (figures, 1.0),
        ([figures[0], leaky], 1 / 2),
        ([faint, figures[1]], 1 / 2),
        ([faint, leaky], 0.0),
    ):
        assert confusion.intact(judge(view, named=named)) == {(): share}


def test_intact_is_averaged_over_images_in_every_layout():
    run = RunMetrics(names=list(CAST), layouts=["side", "interaction"])
    for layout, figures in (
        ("side", read(MILO, OTTO)),
        ("side", read(MILO)),
        ("interaction", []),
    ):
        run.update([Row({"kind": "multi", "layout": layout}, {}, [], judge(figures))])
    found = run.compute()
    assert found["multi/layout_side/intact"] == 0.75
    assert found["multi/layout_interaction/intact"] == 0.0
    assert found["multi/intact"] == 0.5
