"""The comparison of a sweep that was really run."""

from __future__ import annotations

import pytest

from clif_exp.compare.__main__ import main
from clif_exp.compare.reading import read


@pytest.mark.slow
def test_a_sweep_is_compared_and_each_of_its_reports_links_there(clif_exp, tmp_path, capsys):
    result = clif_exp("-m", "+experiment=clif,ablate_maug", "debug=fast", "seed=0,1")
    assert result.code == 0, result.errors
    runs = read([tmp_path / "multirun"])
    assert [run.name for run in runs] == [
        f"experiment={name} seed={seed}" for name in ("ablate_maug", "clif") for seed in (0, 1)
    ]
    for run in runs:
        assert {image.part for image in run.images} == {"single", "multi", "prior"}
        assert all(image.file.is_file() for image in run.images)
        assert set(run.provenance) == {"command", "started", "commit", "hardware", "versions"}
        assert run.provenance["command"].startswith("python -m clif_exp ")
        assert f"seed={run.seed}" in run.provenance["command"]
        assert run.curves["diffusion/loss"][-1][0] == 4
        assert run.concepts
        assert 'href="../comparison.html"' in (run.folder / "report.html").read_text()
    assert main([str(tmp_path / "multirun"), "--baseline", "clif", "--format", "csv"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("experiment=ablate_maug,") == printed.count("experiment=clif,") > 4
    alone = clif_exp("debug=fast")
    assert "comparison.html" not in (alone.folders[-1] / "report.html").read_text()
