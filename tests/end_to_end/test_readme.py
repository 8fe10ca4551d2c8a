"""The README's own commands: as written with the smallest budget, in full in `make test-slow`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from clif_exp.runs.messages import config_folder

README = Path(__file__).resolve().parents[2] / "README.md"


def commands() -> list[str]:
    """Arguments of the README's commands, but for those that need a download or a user's folder."""
    command = r"^ {4}python -m clif_exp(?: +(?P<arguments>[^#\n]*?))? *(?:#.*)?$"
    lines = re.findall(command, README.read_text(), re.M)
    return [line for line in lines if "my_concepts" not in line and "--help" not in line]


def run(clif_exp, line: str, *more: str, timeout: float = 900):
    result = clif_exp(*shlex.split(line), *more, timeout=timeout, WANDB_SILENT="true")
    assert result.code == 0, result.errors[-2000:]
    jobs = 1
    for values in re.findall(r"[\w.+/]+=([^\s\[\]]+,[^\s\[\]]+)", line):
        jobs *= len(values.split(","))
    assert len(result.folders) == jobs
    for index in range(jobs):
        summary = result.summary(index)
        assert summary["status"] == "finished" and summary["metrics"], summary
    return result


def test_the_commands_are_found_in_the_readme():
    found = " ".join(commands())
    assert len(commands()) >= 6
    assert {"", "debug=fast"} <= set(commands())
    for part in (
        "+experiment=ablate_raug",
        "-m +experiment=clif,",
        "dataset=photos",
        "dataset.cast_seed=7",
        "method=mix_only",
    ):
        assert part in found, part


def is_study(experiment: str) -> bool:
    """Whether an experiment is `study`, or builds on one that is."""
    file = config_folder() / "experiment" / f"{experiment}.yaml"
    base = re.search(r"^  - (\w+)$", file.read_text(), flags=re.MULTILINE)
    return experiment == "study" or (base is not None and is_study(base[1]))


def test_the_commands_have_every_experiment_but_studies_and_what_needs_a_download():
    shown = " ".join(commands())
    for file in sorted((config_folder() / "experiment").glob("*.yaml")):
        # Sweeps over casts and seeds at the whole budget, composed in tests/test_config.py; data
        # sets that need a download are run in test_benchmarks.py.
        elsewhere = is_study(file.stem) or "_sd" in file.stem
        if not elsewhere and file.stem not in ("dreambench", "customconcept101"):
            assert re.search(rf"\+experiment=(\w+,)*{file.stem}\b", shown), file.stem


# With `debug=fast` the command without arguments is the one that says so.
@pytest.mark.parametrize("line", [line for line in commands() if line])
def test_each_command_runs_with_a_tiny_budget(clif_exp, line):
    # One seed stands for three: test_sweeps.py has a sweep over seeds.
    line = line.replace("seed=0,1,2", "seed=0")
    few = ["dataset.size=2"] if "dataset=photos" in line else []  # all four take twice as long
    run(clif_exp, line, *few, *([] if "debug=fast" in line else ["debug=fast"]))


def test_the_drawing_commands_run_on_a_runs_export(finished, tmp_path, monkeypatch, capsys):
    from clif_exp.generate import main

    export = finished.folders[-1] / "export"
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^ {4}python -m clif_exp\.generate (.*)$", README.read_text(), re.M)
    for line in lines:
        arguments = shlex.split(line.replace("runs/default/<timestamp>/export", str(export)))
        assert main([*arguments, "--steps", "2"]) == 0, capsys.readouterr().err
    assert (tmp_path / "pair.png").is_file()
    assert len(list((tmp_path / "images").glob("*.png"))) == 6


def test_the_merging_command_runs_on_runs_exports(clif_exp, tmp_path, monkeypatch, capsys):
    from clif_exp.generate import main as generate
    from clif_exp.merge import main

    export = str(clif_exp("debug=fast").folders[-1] / "export")
    monkeypatch.chdir(tmp_path)
    (line,) = re.findall(r"^ {4}python -m clif_exp\.merge (.*)$", README.read_text(), re.M)
    line = re.sub(r"runs/\w+/<timestamp>/export", export, line)
    # One run stands for both; the README's have concepts of their own names.
    more = ["--name-of", "milo=milo_2", "otto=otto_2", "--set", "method.merging.seed=1"]
    more += ["method.merging.num_inference_steps=2"]
    assert main([*shlex.split(line), *more]) == 0, capsys.readouterr().err
    prompt = ["--prompt", "a photo of <milo> next to <otto_2>", "--steps", "2", "--out", "one.png"]
    assert generate(["--model", "both", *prompt]) == 0, capsys.readouterr().err
    assert (tmp_path / "one.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in commands() if "debug=fast" not in line])
def test_each_command_runs_in_full(clif_exp, line):
    # One seed stands for three: what differs is the noise, and it costs an hour.
    result = run(clif_exp, line.replace("seed=0,1,2", "seed=0"), timeout=5400)
    assert all((folder / "report.html").stat().st_size > 100_000 for folder in result.folders)
    singles = [
        result.summary(index)["metrics"].get("single/attendance")
        for index in range(len(result.folders))
    ]
    assert all(share is None or share >= 0.5 for share in singles), (
        "customised characters are recognised when alone"
    )
