"""The tables of a comparison: what is grouped, paired, bold and said to be missing."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from clif_exp.compare import grouping, measures
from clif_exp.compare.__main__ import main
from clif_exp.compare.comparison import compare, notes
from clif_exp.compare.grouping import find_group, group, select
from clif_exp.compare.reading import read
from clif_exp.compare.saved import PLACES
from clif_exp.evaluation.metrics import METRICS, compared
from clif_exp.settings import SPEED
from clif_exp.training.settings import TrainerSettings
from run_folders import write_run, write_sweep

CONFUSION = {"clif": (0.4, 0.5, 0.3, 0.2, 0.6, 0.1), "mix_only": (0.5, 0.7, 0.6, 0.6, 1.1, 0.7)}


@pytest.fixture
def sweep(tmp_path):
    """Two methods, two casts, three seeds."""
    units = [(cast, seed) for cast in (100, 101) for seed in range(3)]
    jobs = {
        (f"method={method}", f"dataset.cast_seed={cast}", f"seed={seed}"): {
            "multi/confusion": value,
            "multi/identity": 1 - value,
            "multi/side": None,
        }
        for method, values in CONFUSION.items()
        for (cast, seed), value in zip(units, values, strict=True)
    }
    return write_sweep(tmp_path / "multirun" / "s", jobs)


def run(capsys, *arguments: object) -> str:
    """Run the command line; return what it printed."""
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def failing(capsys, *arguments: object) -> str:
    """Run a command line that is refused; return its one line."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_sharing_saves_is_what_no_run_computed_again(sweep):
    """Two runs share an hour of stage 1; `curation` repeats what its parts took."""
    first, second, *_ = read([sweep])
    seconds = {"contrastive": 3600.0, "diffusion": 1800.0, "curation": 900.0}
    runs = [
        replace(first, seconds=seconds, reused=[]),
        replace(second, seconds=seconds, reused=["contrastive"]),
    ]
    assert measures.hours(runs) == (2.0, 3.0)


def test_runs_that_differ_in_cast_and_seed_are_one_group(sweep):
    grouped = group(read([sweep]))
    assert [found.label for found in grouped.groups] == ["method=clif", "method=mix_only"]
    assert [len(found.runs) for found in grouped.groups] == [6, 6]
    assert grouped.unit == ["dataset.cast_seed", "seed"]


def test_pairs_are_equal_in_all_that_the_group_does_not_set(sweep):
    found = compare(select(read([sweep]), ["dataset.cast_seed=100"]), baseline="mix_only")
    difference = found.differences["method=clif", "multi/confusion"]
    ones = [a - b for a, b in zip(*CONFUSION.values(), strict=True)][:3]
    assert difference.pairs == 3
    assert difference.mean == pytest.approx(sum(ones) / 3)
    assert difference.effect == -1
    assert difference.p == difference.holm == pytest.approx(2 / 8), "all three of one sign"
    assert difference.interval[0] < difference.mean < difference.interval[1]


def test_runs_on_other_hardware_are_pairs(tmp_path):
    hardware = {"clif": ("cpu", "gpu", "gpu"), "mix_only": ("gpu", "gpu", "cpu")}
    jobs = {
        (f"method={method}", f"seed={seed}", f"trainer.accelerator={used}"): {"multi/side": 0.5}
        for method, one in hardware.items()
        for seed, used in enumerate(one)
    }
    runs = read([write_sweep(tmp_path / "s", jobs)])
    found = compare(runs, by=["method"], baseline="clif", metrics=["multi/side"])
    assert found.grouping.unit == ["seed"]
    assert found.differences["method=mix_only", "multi/side"].pairs == 3


def test_what_changes_no_result_is_what_the_trainer_s_settings_say():
    fields = TrainerSettings.model_fields.items()
    stated = {f"trainer.{name}" for name, field in fields if SPEED in field.metadata}
    known = {*grouping._CHANGE_NO_RESULT, *grouping._MAKE_NO_PAIR_UNLIKE, *PLACES}
    assert stated == {key for key in known if key.startswith("trainer.")}


def test_the_notes_count_the_comparisons_that_were_made(tmp_path):
    jobs = {
        (f"method={method}", f"seed={seed}"): {"multi/side": value + seed, "multi/identity": None}
        for method, value in (("clif", 0.1), ("mix_only", 0.2), ("joint_lora", 0.3))
        for seed in range(6)
        if method != "joint_lora" or seed < 1
    }
    runs = read([write_sweep(tmp_path / "s", jobs)])
    said = notes(compare(runs, by=["method"], baseline="clif", metrics=["multi/side"]))
    assert not any("Holm" in line for line in said), "one group alone has enough pairs"
    unmeasured = compare(runs, by=["method"], baseline="clif", metrics=["multi/identity"])
    assert "No metric was measured by a run of method=clif and by its partner." in notes(unmeasured)


def test_what_a_method_brings_with_it_keeps_no_pair_apart(tmp_path):
    jobs = {}
    for method, rank in (("clif", 16), ("dreambooth", 0)):
        for steps in (400, 800):
            for seed in (0, 1):
                overrides = (f"method={method}", f"diffusion.rank={rank}")
                jobs[(*overrides, f"diffusion.steps={steps}", f"seed={seed}")] = {"multi/side": 0.5}
    runs = read([write_sweep(tmp_path / "s", jobs)])
    found = compare(runs, by=["method"], baseline="clif", metrics=["multi/side"])
    assert [x.label for x in found.grouping.groups] == ["method=clif", "method=dreambooth"]
    assert found.grouping.unit == ["seed", "diffusion.steps"]
    assert found.differences["method=dreambooth", "multi/side"].pairs == 4
    by_default = group(runs)
    assert [x.label for x in by_default.groups] == [
        f"method={method}, diffusion.steps={steps}"
        for method in ("clif", "dreambooth")
        for steps in (400, 800)
    ]
    assert (
        find_group(by_default, "dreambooth, 800").label == "method=dreambooth, diffusion.steps=800"
    )
    with pytest.raises(ValueError, match="2 groups called 'clif'; there are: method=clif, diff"):
        find_group(by_default, "clif")


def test_failed_repeated_and_foreign_runs_are_counted_apart(tmp_path):
    for index, value in enumerate((0.1, 0.2)):
        started = {"started": f"2026-01-0{index + 1}", "commit": f"c{index}"}
        metrics = {"multi/confusion": value}
        write_run(tmp_path / f"again{index}", "seed=0", metrics=metrics, provenance=started)
    write_run(tmp_path / "nan", "seed=1", status="failed", error="loss is NaN in step 3\nmore")
    write_run(tmp_path / "bad", "method=mix_only", status="refused", error="diffusion.rank: found")
    found = compare(read([tmp_path]), metrics=["multi/confusion"])
    mean = found.means["method=clif", "multi/confusion"]
    assert (mean.runs, mean.mean, mean.interval) == (1, 0.2, None), "the newer one, once"
    said = " ".join(notes(found))
    assert "Left out: 1 with the same settings" in said
    assert "failed: " in said
    assert "(loss is NaN in step 3)" in said
    assert "refused: " in said
    assert "One run in each group: no intervals" in said
    by_commit = group(read([tmp_path]), ["commit"])
    assert {x.label for x in by_commit.groups} == {"commit=c0", "commit=c1", "commit=null"}


@pytest.mark.usefixtures("sweep")
def test_unequal_and_missing_are_said(tmp_path, capsys):
    extra = {"multi/confusion": 0.4, "multi/identity": None}
    write_run(tmp_path / "more", "method=clif", "dataset.cast_seed=102", "seed=0", metrics=extra)
    text = run(capsys, tmp_path, "--format", "markdown", "--baseline", "mix_only")
    lines = text.splitlines()
    assert lines[0] == "|  | runs | multi/identity ↑ | multi/confusion ↓ |", "side was not measured"
    clif = next(line for line in lines if line.startswith("| method=clif"))
    assert clif.startswith("| method=clif | 7 (3 casts) | **0.650** (")
    assert "6 of 7 runs) | **0.367** (" in clif
    assert "Groups have different numbers of runs" in text
    text = run(capsys, tmp_path, "--metric", "multi/side", "--format", "markdown")
    assert "| method=clif | 7 (3 casts) | - |" in text


def test_the_better_direction_is_the_metrics(sweep):
    found = compare(read([sweep]), metrics=["multi/confusion", "multi/identity", "minutes"])
    assert found.best("multi/confusion") == {"method=clif"}, "lower is better"
    assert found.best("multi/identity") == {"method=clif"}, "higher is better"
    assert found.best("minutes") == set(), "not known"


def test_the_best_is_the_same_whatever_the_last_digits_are(tmp_path):
    jobs = {("method=a",): {"multi/side": 0.1 + 0.2}, ("method=b",): {"multi/side": 0.3}}
    jobs[("method=c",)] = {"multi/side": 0.2}
    found = compare(read([write_sweep(tmp_path / "s", jobs)]), metrics=["multi/side"])
    assert found.best("multi/side") == {"method=a", "method=b"}


def test_what_is_compared_by_default_are_metrics_of_the_one_table():
    assert {"multi/confusion", "multi/identity", "single/identity"} <= set(compared())
    for metric in METRICS:
        assert set(metric.compared) <= set(metric.groups), metric.name


def test_groups_stand_in_the_order_of_their_numbers(tmp_path):
    for rate in ("0.001", "1e-05", "0.0005"):
        write_run(tmp_path / rate, f"diffusion.learning_rate={float(rate)}", "diffusion.rank=4")
    for rank in (16, 128):
        write_run(tmp_path / str(rank), f"diffusion.rank={rank}")
    by_rank = group(read([tmp_path]), ["diffusion.rank"])
    assert [x.label.partition("=")[2] for x in by_rank.groups] == ["4", "16", "128"]
    by_rate = group(select(read([tmp_path]), ["diffusion.rank=4"]))
    assert [x.label.partition("=")[2] for x in by_rate.groups] == ["1e-05", "0.0005", "0.001"]


def test_conditions_choose_runs(sweep):
    runs = read([sweep])
    assert len(select(runs, ["seed=0,2", "method=clif"])) == 4
    assert len(select(runs, ["diffusion.rank=16.0"])) == 12
    assert len(select(runs, ["diffusion.target_modules=[to_q,to_k]"])) == 12
    assert len(select(runs, ["model.family=toonworld", "dataset.cast_seed=100"])) == 6
    with pytest.raises(ValueError, match=r"no run has diffusion.rank=4; there are 16"):
        select(runs, ["diffusion.rank=4"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--where", "diffusion.rnk=4"], "did you mean diffusion.rank"),
        (["--where", "seed"], "write key=value"),
        (["--group-by", "metod"], "--group-by: no run has a setting 'metod'"),
        (["--metric", "multi/confuson"], "did you mean multi/confusion"),
        (["--baseline", "lora"], "there are: method=clif; method=mix_only"),
        (["--out", "table.doc"], "give --format too"),
        (["--per-concept", "attendance"], "no run knows attendance"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line(sweep, capsys, arguments, says):
    line = failing(capsys, sweep, *arguments)
    assert line.startswith("clif_exp: error: ")
    assert says in line


def test_csv_has_a_line_for_each_group_and_metric(sweep, capsys):
    text = run(capsys, sweep, "--format", "csv", "--baseline", "mix_only")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["group"], row["metric"]) for row in rows] == [
        (f"method={method}", f"multi/{metric}")
        for method in ("mix_only", "clif")
        for metric in ("identity", "confusion")
    ]
    assert float(rows[3]["mean"]) == pytest.approx(0.35)
    assert float(rows[3]["holm"]) == pytest.approx(2 / 4), "of two casts"
    assert (rows[3]["runs"], rows[3]["units"], rows[3]["pairs"]) == ("6", "2", "2")
    assert rows[0]["difference"] == ""


def test_latex_is_booktabs_with_nothing_left_to_escape(sweep, tmp_path, capsys):
    run(capsys, sweep, "--out", tmp_path / "new" / "table.tex", "--baseline", "mix_only")
    text = (tmp_path / "new" / "table.tex").read_text()
    assert r"\toprule" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert r"\textbf{0.350} {\scriptsize (" in text
    assert r"method=mix\_only" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert not any(re.search(r"(?<!\\)[_%#]|[↑↓<]", row.replace("$<$", "")) for row in rows)


def test_concepts_stand_by_group_and_cast(tmp_path, capsys):
    store = tmp_path / "artifacts" / "evaluation"
    for method, cast, value in (("clif", 1, 1.0), ("clif", 2, 0.5), ("mix_only", 1, 0.25)):
        digest = f"{method}{cast}"
        (store / digest).mkdir(parents=True)
        text = f'{{"multi": {{"attendance": {{"milo": {value}}}, "confusion": {{}}}}}}'
        (store / digest / "confusion_matrix.json").write_text(text)
        write_run(
            tmp_path / "runs" / digest,
            f"method={method}",
            f"dataset.cast_seed={cast}",
            metrics={"multi/attendance": value},
            stages={"evaluation": {"fingerprint": digest}},
        )
    arguments = ("--per-concept", "attendance", "--format", "markdown")
    text = run(capsys, tmp_path / "runs", *arguments, "--save", tmp_path / "kept.json")
    assert "| concept | method=clif | method=mix_only |" in text
    assert "| cast 1: milo | 1.00 | 0.25 |" in text, "casts share names but no rows"
    assert "| cast 2: milo | 0.50 | - |" in text
    assert run(capsys, tmp_path / "kept.json", *arguments) == text


def test_the_terminals_table_shows_all_columns(sweep, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    text = run(capsys, sweep, "--baseline", "mix_only", "--metric", "*", "--metric", "multi/side")
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("confusion ↓") >= 2, "in the table of means and in that of differences"
    assert "0.350" in text
    assert "6 pairs" not in text, "six pairs can reach p < 0.05"


def test_the_readmes_commands_run(tmp_path, monkeypatch, capsys):
    jobs = {
        (f"+experiment={name}", f"seed={seed}"): {"multi/confusion": seed / 3}
        for name in ("clif", "ablate_maug")
        for seed in (0, 1)
    }
    sweep = write_sweep(tmp_path / "multirun" / "experiment,seed", jobs)
    for job in sweep.glob("*/summary.json"):
        stages = {"evaluation": {"fingerprint": "e", "seconds": 1.0}}
        job.write_text(json.dumps(json.loads(job.read_text()) | {"stages": stages}))
    (tmp_path / "artifacts" / "evaluation" / "e").mkdir(parents=True)
    judged = {"multi": {"attendance": {"milo": 0.5}}}
    file = tmp_path / "artifacts" / "evaluation" / "e" / "confusion_matrix.json"
    file.write_text(json.dumps(judged))
    write_run(tmp_path / "runs" / "default" / "a", metrics={"multi/confusion": 0.5})
    monkeypatch.chdir(tmp_path)
    readme = Path(__file__).resolve().parents[2] / "README.md"
    lines = re.findall(r"^ {4}python -m clif_exp\.compare (.*)$", readme.read_text(), re.M)
    assert len(lines) > 4
    for line in lines:
        if "--html" not in line:  # tested with the page
            assert run(capsys, *shlex.split(line, comments=True)) or "--out" in line, line
    assert (tmp_path / "table.tex").is_file()
    assert len(read([tmp_path / "runs.json"])) == 4


def test_help_answers_at_once():
    start = time.monotonic()
    code = "import sys; from clif_exp.compare.__main__ import main\ntry: main(['--help'])\nfinally:"
    code += " print([m for m in ('pandas', 'scipy', 'rich', 'torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", "nothing heavy is imported"
    assert "--baseline clif" in done.stdout
    assert time.monotonic() - start < 5


def test_options_that_contradict_each_other_are_refused(capsys, sweep, tmp_path):
    both = failing(capsys, sweep, "--per-concept", "attendance", "--baseline", "clif")
    assert "--baseline: a table per concept has no differences" in both
    for option, name in (("--save", "runs.txt"), ("--html", "page.txt")):
        assert f"{option}: {tmp_path / name} is no" in failing(
            capsys, sweep, option, tmp_path / name
        )
    assert not list(tmp_path.glob("*.txt"))
