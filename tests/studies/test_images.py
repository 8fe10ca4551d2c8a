"""Which images a figure shows is decided by its rule, not by what was drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from clif_exp.compare.grouping import group
from clif_exp.compare.reading import read
from clif_exp.studies import images
from clif_exp.studies.settings import ImagesFigure
from judged_runs import PAIRS, a_run


def shown(root: Path, **changes):
    """Return what a figure shows of the runs below a folder."""
    settings = {
        "kind": "images",
        "layouts": ["side", "free"],
        "pairs": "any",
        "concepts": 2,
        "rows": 3,
    }
    groups = group(read([root]), ["method"]).groups
    return groups, images.collect(groups, settings=ImagesFigure(**settings | changes))


@pytest.mark.parametrize("intact", [0, 2])
def test_prompts_are_chosen_in_their_order_whatever_was_drawn(tmp_path, intact):
    a_run(tmp_path, "clif", seed=0, intact=intact)
    a_run(tmp_path, "mix_only", seed=0, intact=1)
    groups, found = shown(tmp_path)
    assert [row["prompt"] for row in found["rows"]] == [
        "<milo> side <otto>",
        "<milo> free <luna>",
        "<luna> side <bolt>",
    ]
    assert found["rows"][0]["intact"] == {"method=clif": intact, "method=mix_only": 1}
    images.draw(groups, found, tmp_path / "images.png")
    assert (tmp_path / "images.png").is_file()
    assert "The first 3 prompts" in images.caption(found)


def test_pairs_are_alike_or_across_styles_by_the_cast(tmp_path):
    # In cast 200 milo and otto are flat girls, luna is shaded and bolt textured.
    a_run(tmp_path, "clif", seed=0, intact=1)
    alike = shown(tmp_path, pairs="alike")[1]["rows"]
    assert {tuple(row["concepts"]) for row in alike} == {("milo", "otto")}
    across = shown(tmp_path, pairs="across_styles", rows=9)[1]["rows"]
    assert {tuple(row["concepts"]) for row in across} == set(PAIRS[1:])


def test_groups_are_shown_with_the_same_cast_and_seed(tmp_path):
    a_run(tmp_path, "clif", seed=0, intact=1)
    for method in ("clif", "mix_only"):
        a_run(tmp_path, method, seed=1, intact=1)
    assert shown(tmp_path)[1]["cast"] == "cast 200, training seed 1"


def test_a_figure_that_nothing_fits_is_refused(tmp_path):
    a_run(tmp_path, "clif", seed=0, intact=1)
    with pytest.raises(ValueError, match="of 3 or more concepts has"):
        shown(tmp_path, concepts=3)
    a_run(tmp_path, "mix_only", seed=1, intact=1)
    with pytest.raises(ValueError, match="no cast and seed has a finished run in every group"):
        shown(tmp_path)


def test_a_layout_that_does_not_exist_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"layouts\.0"):
        ImagesFigure(kind="images", layouts=["sied"], pairs="any", concepts=2, rows=1)
