"""Do near concepts get confused: the numbers of Fig. 2 on cases worked by hand."""

from __future__ import annotations

import math

import pytest

from clif_exp.studies import distance


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
    assert all(panel in drawn for panel in panels)
    rho = statistics["general concepts"]["contextual"]["rho"]
    assert rho["value"] == -1
    assert rho["interval"] == pytest.approx((-1, -1))
    assert statistics["method=clif"]["contextual"]["auc"] == {"value": None, "interval": None}
    said = distance.caption(found)
    assert "| general concepts | 10 | 6 | contextual tokens | -1.00 (-1.00 to -1.00) |" in said
    assert "| method=clif | 4 | 4 | contextual tokens | -1.00 (-1.00 to -1.00) | - |" in said
