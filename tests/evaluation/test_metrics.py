"""The table of metrics: what follows from it, here and in the README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clif_exp.evaluation.metrics import (
    METRICS,
    guide,
    markdown_table,
    objectives,
    table_of_metrics,
)
from clif_exp.runs.composing import compose
from support import default_config

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_shows_the_table():
    _, _, rest = README.read_text().partition("<!-- metrics -->\n")
    shown, _, _ = rest.partition("\n<!-- /metrics -->")
    assert shown == markdown_table()


def test_the_promised_names_exist():
    shared = "text_alignment image_alignment identity attribute_binding attendance duplicates"
    promised = {f"{kind}/{name}" for kind in ("single", "multi") for name in shared.split()}
    promised |= {"multi/leakage", "multi/side", "multi/confusion", "prior/text_alignment"}
    assert promised <= set(objectives())


def test_tables_show_what_the_base_model_draws_before_what_was_customised():
    found = ["single/identity", "stage1/identity", "class_word/identity", "prior_before/identity"]
    columns, _ = table_of_metrics(found)
    assert columns == ["class_word", "stage1", "single", "prior_before"]


def test_every_metric_is_described_once():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert len({metric.title for metric in METRICS}) == len(METRICS)
    for row in guide():
        assert row["meaning"].endswith("."), row["name"]
        assert row["better"] in ("higher is better", "lower is better")


@pytest.mark.parametrize("objective", objectives())
def test_every_metric_can_be_an_objective(objective):
    assert default_config(f"objective={objective}").objective == objective


@pytest.mark.parametrize("objective", ["single/confusion", "prior/image_alignment", "identity"])
def test_what_no_run_measures_is_no_objective(objective):
    with pytest.raises(ValueError, match="objective"):
        compose(f"objective={objective}")


def test_tables_show_groups_and_metrics_in_their_order_and_no_breakdowns():
    found = ["prior/pictures", "multi/side", "multi/identity", "multi/pairs_seen/leakage"]
    assert table_of_metrics(found) == (["multi", "prior"], ["identity", "side", "pictures"])
    assert table_of_metrics([]) == ([], [])


def test_the_table_costs_no_import():
    """The config is checked against it before anything heavy is loaded."""
    code = (
        "import sys, clif_exp.evaluation.metrics;"
        "print([name for name in ('torch', 'numpy', 'torchmetrics', 'scipy', 'PIL')"
        " if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
