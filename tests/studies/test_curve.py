"""Metrics against a swept setting: means, paired differences, chart and caption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clif_exp.compare.run import Run
from clif_exp.studies.figures import keep_figures
from clif_exp.studies.settings import CurveFigure

LENGTH = "diffusion.images_per_concept"
INTACT = {  # method -> images per concept -> of seeds 0 to 5
    "clif": {300: [0.2, 0.3, 0.2, 0.3, 0.2, 0.3], 1200: [0.5, 0.6, 0.7, 0.5, 0.6, 0.7]},
    "mix_only": {300: [0.1, 0.1, 0.1, 0.1, 0.1, 0.1], 1200: [0.6, 0.5, 0.7, 0.5, 0.6, 0.7]},
}


def a_run(method: str, length: object, seed: int, intact: float | None, cast: int = 104) -> Run:
    """Return a finished run."""
    settings = {"method.name": method, LENGTH: length, "dataset.cast_seed": cast, "seed": seed}
    return Run(
        folder=Path(f"{method}-{length}-{cast}-{seed}"),
        name="",
        sweep=None,
        status="finished",
        error=None,
        seed=seed,
        settings=settings,
        metrics={"multi/intact": intact},
    )


def kept(folder: Path, runs, *, by=("method", LENGTH), metric="multi/intact") -> dict:
    """Keep a curve; return its numbers."""
    figure = CurveFigure(kind="curve", setting=LENGTH, metrics=[metric])
    keep_figures(runs, folder, [figure], by=by)
    return json.loads((folder / "curve.json").read_text())


def all_runs() -> list[Run]:
    """Return the runs of INTACT."""
    return [
        a_run(method, length, seed, value)
        for method, of in INTACT.items()
        for length, values in of.items()
        for seed, value in enumerate(values)
    ]


@pytest.mark.parametrize("by", [("method", LENGTH), ("method",), ()])
def test_a_curve_holds_every_value_however_the_table_is_grouped(tmp_path, by):
    found = kept(tmp_path, all_runs(), by=by)
    curves = found["metrics"]["multi/intact"]
    assert {label: [point["at"] for point in points] for label, points in curves.items()} == {
        "method=clif": [300, 1200],
        "method=mix_only": [300, 1200],
    }
    assert [point["mean"] for point in curves["method=clif"]] == pytest.approx([0.25, 0.6])
    assert all(point["runs"] == 6 for points in curves.values() for point in points)


def test_differences_are_of_equal_runs_and_their_p_is_corrected(tmp_path):
    found = kept(tmp_path, all_runs())
    at_300, at_1200 = found["differences"]["multi/intact"]["method=mix_only"]
    # All six differences have one sign: 2 of 64 ways, for two comparisons.
    assert (at_300["pairs"], at_300["mean"]) == (6, pytest.approx(-0.15))
    assert at_300["p"] == pytest.approx(2 / 64)
    assert at_300["holm"] == pytest.approx(4 / 64)
    # +0.1 and -0.1 and four that do not differ.
    assert (at_1200["mean"], at_1200["p"]) == (pytest.approx(0.0), 1.0)
    said = (tmp_path / "figures.md").read_text()
    (line,) = [line for line in said.splitlines() if line.startswith("| multi/intact ↑ | 300 |")]
    assert "| 0.100 (0.100 to 0.100) |" in line
    assert line.endswith("| 0.062 |")
    drawn = (tmp_path / "curve.svg").read_text()
    assert all(word in drawn for word in ("method=clif", "multi/intact", "300", "1200"))


def test_one_group_alone_is_a_curve_without_differences(tmp_path):
    found = kept(tmp_path, [run for run in all_runs() if run.settings["method.name"] == "clif"])
    assert list(found["metrics"]["multi/intact"]) == ["method=clif"]
    assert found["differences"] == {"multi/intact": {}}
    said = (tmp_path / "figures.md").read_text()
    assert "difference" not in said
    assert f"| metric | {LENGTH} | method=clif |\n| --- | ---: | ---: |\n" in said


@pytest.mark.parametrize(
    ("length", "metric", "message"),
    [
        (None, "multi/intact", "is None in method=clif; a curve needs a number"),
        (300, "multi/intacct", "no run has measured 'multi/intacct'"),
    ],
)
def test_what_is_no_curve_is_refused(tmp_path, length, metric, message):
    runs = [a_run("clif", length, 0, 0.5), a_run("clif", 600, 0, 0.5)]
    with pytest.raises(ValueError, match=message):
        kept(tmp_path, runs, metric=metric)


def test_a_cast_is_one_value_of_a_curve(tmp_path):
    """One cast has three seeds, six others one: means and pairs are of seven."""
    units = [(100, seed) for seed in range(3)] + [(cast, 0) for cast in range(101, 107)]
    runs = [
        a_run(method, 300, seed, 0.3 + 0.1 * seed + (method == "clif") * (1 + seed) / 10, cast)
        for method in ("clif", "mix_only")
        for cast, seed in units
    ]
    found = kept(tmp_path, runs)
    (point,) = found["metrics"]["multi/intact"]["method=mix_only"]
    assert (point["runs"], point["mean"]) == (9, pytest.approx((0.4 + 6 * 0.3) / 7))
    (difference,) = found["differences"]["multi/intact"]["method=mix_only"]
    assert difference["pairs"] == 7
    assert difference["mean"] == pytest.approx(-(0.2 + 6 * 0.1) / 7)
