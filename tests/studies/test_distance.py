"""Do near concepts get confused: the numbers of Fig. 2 on cases worked by hand."""

from __future__ import annotations

import json
import math
import re

import pytest

from clif_exp.compare.grouping import group
from clif_exp.compare.reading import published, read
from clif_exp.evaluation.distance import AFTER_TRAINING
from clif_exp.studies import distance
from judged_runs import a_run


def test_the_area_under_the_curve_is_the_share_of_rightly_ordered_pairs():
    # Confused at 0.1 and 0.4, not at 0.2 and 0.5: of four comparisons 0.4 against 0.2 is wrong.
    found = distance.area_under_curve([0.1, 0.4, 0.2, 0.5], [0.9, 0.5, 0.4, 0.0])
    assert found == pytest.approx(3 / 4)
    assert distance.area_under_curve([0.3, 0.3], [1.0, 0.0]) == pytest.approx(0.5)
    assert math.isnan(distance.area_under_curve([0.1, 0.2], [1.0, 0.9]))


def test_near_pairs_that_are_confused_more_correlate_below_zero():
    assert distance.rank_correlation([0.1, 0.2, 0.3], [0.9, 0.5, 0.1]) == pytest.approx(-1)
    assert math.isnan(distance.rank_correlation([0.1, 0.2], [0.5, 0.5]))


def test_the_chart_and_its_caption_hold_every_panel(tmp_path):
    def point(place, shown, confusion):
        kinds = dict.fromkeys(("rows", "contextual", "keys_values"), shown)
        return {"unit": f"seed={place % 2}", "pair": f"a|{place}", "confusion": confusion, **kinds}

    points = [point(place, place / 10, 1 - place / 10) for place in range(10)]
    panels = {"general concepts": points, "method=clif": points[:4]}
    statistics = {panel: distance.statistics_of(of_panel) for panel, of_panel in panels.items()}
    found = {"points": panels, "statistics": statistics}
    distance.draw(found, tmp_path / "distance.svg")
    drawn = (tmp_path / "distance.svg").read_text()
    assert "general concepts" in drawn
    assert re.search(r"\bclif\b", drawn)
    assert "method=" not in drawn, "a title says the value alone"
    rho = statistics["general concepts"]["contextual"]["rho"]
    assert rho["value"] == -1
    assert rho["interval"] == pytest.approx((-1, -1))
    assert statistics["method=clif"]["contextual"]["auc"] == {"value": None, "interval": None}
    said = distance.caption(found)
    assert "| general concepts | 10 | 6 | contextual tokens | -1.00 (-1.00 to -1.00) |" in said
    assert "| method=clif | 4 | 4 | contextual tokens | -1.00 (-1.00 to -1.00) | - |" in said


@pytest.mark.parametrize("casts", [(200, 201), (200,)])
def test_a_pair_is_one_point_however_many_seeds_have_drawn_it(tmp_path, casts):
    folders = [a_run(tmp_path, "clif", seed=s, intact=1, cast=c) for c in casts for s in (0, 1)]
    runs = read(folders)
    for run in runs:
        folder = published(run, "evaluation")
        apart = {"matrix": [[0, 0.25, 0.5], [0.25, 0, 0.75], [0.5, 0.75, 0]]}
        stages = {"class words": {"contextual": apart}, AFTER_TRAINING: {"contextual": {}}}
        measured = {"names": ["luna", "milo", "otto"], "stages": stages}
        (folder / "distances.json").write_text(json.dumps(measured))
        confused = {"confusion": 0.2 + 0.4 * run.seed, "leaked": 0.0, "pictures": 8.0}
        judged = {"multi": {"pairs": {"luna|milo": confused, "luna|otto": confused}}}
        (folder / "confusion_matrix.json").write_text(json.dumps(judged))
    found = distance.collect(group(runs, ["method"]).groups)
    (points,) = found["points"].values()
    assert [point["confusion"] for point in points] == pytest.approx([0.4] * 2 * len(casts))
    assert [point["pictures"] for point in points] == [16.0] * 2 * len(casts)
    (numbers,) = found["statistics"].values()
    assert (numbers["pairs"], numbers["units"]) == (2 * len(casts), 2), "two casts, or two pairs"
