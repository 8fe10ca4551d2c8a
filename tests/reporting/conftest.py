"""A run made of drawings, and its page."""

from __future__ import annotations

import pytest

import demo_run
from clif_exp.evaluation.metrics import guide
from clif_exp.reporting.stage import write_report


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return demo_run.publish_run(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="session")
def page(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    summary, artifacts = run
    write_report(
        folder,
        summary=summary,
        artifacts=artifacts,
        guide=guide(),
        config_yaml="secret_free: true\nname: <script>alert(1)</script>\n",
    )
    return folder, (folder / "report.html").read_text()
