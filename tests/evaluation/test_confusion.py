"""The confusion metrics on drawn scenes of known truth, against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clif_exp.evaluation import confusion
from clif_exp.evaluation.figures import AMBIGUOUS, NOT_VISIBLE, Figure
from clif_exp.evaluation.matrices import (
    attendance_per_concept,
    confusion_matrix,
    confusion_per_pair,
)
from drawn_figures import CAST, DIFFERING, LUNA, MILO, OTTO, SIDES, TRUTH, judge, metrics, read


def test_the_two_look_alikes_differ_in_six_slots():
    assert DIFFERING == ["hat", "hat_colour", "top", "top_colour", "pattern", "accessory"]


@pytest.mark.parametrize("sides", [SIDES, None])
def test_a_perfect_image_is_perfect(sides):
    found = metrics(judge(read(MILO, OTTO), sides))
    assert found == {
        "identity": 1.0,
        "attribute_binding": 1.0,
        "attendance": 1.0,
        "duplicates": 0.0,
        "leakage": 0.0,
        "leakage_uncorrected": 0.0,
        "side": 1.0 if sides else None,
        "confusion": 0.0,
        "intact": 1.0,
    }


def test_without_prompted_sides_the_named_order_does_not_matter():
    found = metrics(judge(read(OTTO, MILO), sides=None))
    assert (found["identity"], found["leakage"], found["confusion"]) == (1.0, 0.0, 0.0)


def test_the_order_in_which_figures_are_found_does_not_matter():
    figures = read(replace(MILO, hat="feather hat"), OTTO)
    assert metrics(judge(figures)) == metrics(judge(figures[::-1]))


def test_swapped_hats_leak_exactly_the_hats():
    swapped = [
        replace(MILO, hat=OTTO.hat, hat_colour=OTTO.hat_colour),
        replace(OTTO, hat=MILO.hat, hat_colour=MILO.hat_colour),
    ]
    for sides in (SIDES, None):
        found = metrics(judge(read(*swapped), sides))
        # The hat and its colour, of the six slots on which the two differ.
        assert found["leakage"] == pytest.approx(2 / 6)
        assert found["identity"] == pytest.approx(9 / 11)
        # Of Milo's 10 attributes that are not absences 8 are bound and 2 moved, of Otto's 11 9 and
        # 2.
        assert found["attribute_binding"] == pytest.approx(17 / 21)
        assert found["attendance"] == 1.0
        assert found["duplicates"] == 0.0
        assert found["confusion"] == 1.0


def test_leakage_is_counted_beyond_the_error_of_single_images():
    purple = replace(MILO, hat_colour=OTTO.hat_colour)  # wrong even when alone: 1 of 6
    singles = tuple(
        judge(read(who), None, named=(name,), others=list(TRUTH))
        for who, name in ((purple, "milo"), (OTTO, "otto"))
    )
    swapped = [
        replace(MILO, hat=OTTO.hat, hat_colour=OTTO.hat_colour),
        replace(OTTO, hat=MILO.hat, hat_colour=MILO.hat_colour),
    ]
    found = metrics(judge(read(*swapped)), singles=singles)
    assert found["leakage"] == pytest.approx(((2 / 6 - 1 / 6) + 2 / 6) / 2)
    assert found["leakage_uncorrected"] == pytest.approx(2 / 6)


def test_without_single_images_there_is_nothing_that_leakage_goes_beyond():
    swapped = judge(read(replace(MILO, hat=OTTO.hat), OTTO))
    found = metrics(swapped, singles=())
    assert found["leakage"] is None
    assert found["leakage_uncorrected"] == metrics(swapped)["leakage_uncorrected"] > 0


def test_a_wrong_value_from_nowhere_is_no_leakage_and_no_binding_error():
    found = metrics(judge(read(replace(MILO, hat="crown"), OTTO)))
    assert found["leakage"] == 0.0
    assert found["attribute_binding"] == 1.0
    assert found["identity"] == pytest.approx((10 / 11 + 1) / 2)


def test_a_colour_moved_between_parts_of_one_concept_is_a_binding_error_only():
    # Milo's green beanie takes the brown of his trousers, which is nobody else's hat colour.
    judgement = judge(
        read(replace(MILO, hat_colour="brown")), None, named=("milo",), others=list(TRUTH)
    )
    assert (judgement.bound, judgement.moved) == (9, 1)
    assert confusion.attribute_binding(judgement) == {(): pytest.approx(9 / 10)}


@pytest.mark.parametrize(("who", "there", "gone"), [(MILO, "milo", "otto"), (OTTO, "otto", "milo")])
@pytest.mark.parametrize("sides", [SIDES, None])
def test_a_dropped_figure_is_missing(who, there, gone, sides):
    judgement = judge(read(who), sides)
    assert set(judgement.present) == {there}
    assert attendance_per_concept([judgement]) == {there: 1.0, gone: 0.0}
    found = metrics(judgement)
    assert (found["attendance"], found["duplicates"], found["confusion"], found["side"]) == (
        0.5,
        0.0,
        1.0,
        None,
    )


def test_an_added_copy_is_a_duplicate():
    found = metrics(judge(read(MILO, OTTO, MILO), sides=None))
    assert (
        found["attendance"],
        found["duplicates"],
        found["identity"],
        found["leakage"],
        found["confusion"],
    ) == (1.0, 1.0, 1.0, 0.0, 1.0)


def test_duplicates_are_counted_per_image_and_not_per_named_concept():
    found = metrics(judge(read(MILO, OTTO, MILO), sides=None), judge(read(MILO, OTTO)))
    assert found["duplicates"] == 0.5  # one surplus figure in two images of two concepts each


def test_side_counts_neighbours_in_order_wherever_the_two_stand():
    figures = [
        replace(figure, box=tuple(edge * 0.4 if axis % 2 == 0 else edge for axis, edge in box))
        for figure in read(MILO, OTTO)
        for box in [list(enumerate(figure.box))]
    ]
    assert all(figure.x < 0.5 for figure in figures)  # both are left of the centre
    assert metrics(judge(figures))["side"] == 1.0


def test_two_copies_of_one_leave_the_other_missing():
    found = metrics(judge(read(MILO, MILO)))
    assert (found["attendance"], found["duplicates"]) == (0.5, 1.0)
    # The right one shows all six of Milo's values.
    assert found["leakage"] == pytest.approx((0 + 1) / 2)


def test_one_blend_of_two_leaves_one_missing():
    blend = replace(MILO, top=OTTO.top, top_colour=OTTO.top_colour, pattern=OTTO.pattern)
    found = metrics(judge(read(blend), sides=None))
    assert (found["attendance"], found["confusion"]) == (0.5, 1.0)


def test_swapped_sides_fail_side_and_identity_but_not_attendance():
    found = metrics(judge(read(OTTO, MILO)))
    assert (found["side"], found["attendance"], found["duplicates"]) == (0.0, 1.0, 0.0)
    assert found["identity"] == pytest.approx(5 / 11)
    assert found["leakage"] == 1.0


def test_occluded_is_not_missing_and_what_is_hidden_is_left_out():
    figures = read(MILO, OTTO, interaction="behind")
    hidden = [
        replace(
            figures[0], attributes=figures[0].attributes | dict.fromkeys(DIFFERING, NOT_VISIBLE)
        ),
        figures[1],
    ]
    for view in (figures, hidden):
        found = metrics(judge(view, sides=None))
        assert (found["attendance"], found["identity"], found["leakage"], found["confusion"]) == (
            1.0,
            1.0,
            0.0,
            0.0,
        )


def test_ambiguous_is_not_shown_and_not_leaked():
    figures = read(MILO, OTTO)
    blurred = [
        replace(figures[0], attributes=figures[0].attributes | {"hat": AMBIGUOUS}),
        figures[1],
    ]
    found = metrics(judge(blurred))
    assert found["identity"] == pytest.approx((10 / 11 + 1) / 2)
    assert found["leakage"] == 0.0
    assert found["attribute_binding"] == 1.0


def test_an_absence_can_leak():
    found = metrics(judge(read(MILO, replace(OTTO, accessory="none"))))  # Milo has no necktie
    assert found["leakage"] == pytest.approx((0 + 1 / 6) / 2)


def test_a_stranger_is_neither_present_nor_a_duplicate():
    figures = read(MILO, OTTO)
    stranger = Figure((0.45, 0.2, 0.55, 0.9), 1.0, CAST["bolt"].attributes())
    found = metrics(judge([*figures, stranger]))
    assert (found["attendance"], found["duplicates"], found["identity"]) == (1.0, 0.0, 1.0)


def test_an_empty_image_is_confused_and_has_no_identity():
    found = metrics(judge([]))
    assert (found["identity"], found["attendance"], found["leakage"], found["confusion"]) == (
        None,
        0.0,
        None,
        1.0,
    )


def test_three_in_a_row_are_assigned_by_their_places():
    # Asked for: milo, otto, luna from left to right.
    named, sides = ("luna", "milo", "otto"), ("2", "0", "1")
    kept = judge(read(MILO, OTTO, LUNA), sides, named=named)
    assert kept.sides == (2, 2)
    assert set(kept.identity.values()) == {1.0}
    turned = judge(read(MILO, LUNA, OTTO), sides, named=named)
    assert turned.sides == (1, 2)
    assert turned.identity["milo"] == 1.0
    assert turned.identity["otto"] < 1.0


def test_the_confusion_matrix_says_which_concept_was_taken_for_which():
    names = ["milo", "otto", "luna"]
    judged = [
        (figures, judge(figures)) for figures in (read(MILO, OTTO), read(MILO, MILO), read(MILO))
    ]
    matrix = confusion_matrix(judged, names=names, truth=TRUTH)
    assert matrix["nearest"] == [
        [1.0, 0.0, 0.0, 0.0],
        pytest.approx([1 / 3, 1 / 3, 0.0, 1 / 3]),
        None,
    ]
    assert matrix["agreement"][1][:2] == pytest.approx([(5 / 11 + 1) / 2, (1 + 5 / 11) / 2])
    assert matrix["count"] == [3, 3, 0]
    pairs = confusion_per_pair([judgement for _, judgement in judged])
    assert pairs["milo|otto"]["confusion"] == pytest.approx(2 / 3)
    assert pairs["milo|otto"]["pictures"] == 3
