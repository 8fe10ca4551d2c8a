"""A search finds what is better, loses and repeats nothing, and refuses what cannot work."""

from __future__ import annotations

import importlib.util
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from clif_exp.runs.messages import config_folder
from clif_exp.sweeps.outcome import sections_of
from clif_exp.sweeps.search import prepare

pytest.importorskip("optuna")

from searches import NAME, OBJECTIVE, SPACE, Search, lines, study_of


def wait_for(condition, timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def states(folder: Path) -> dict[int, str]:
    return {trial.number: trial.state.name for trial in study_of(folder).trials}


def test_a_search_finds_the_better_region_and_sigkill_loses_and_repeats_no_trial(
    tmp_path, shared_store
):
    folders = [tmp_path / name for name in ("killed", "undisturbed")]
    for folder in folders:
        folder.mkdir()
    killed, undisturbed = folders
    command = (SPACE, "hydra.sweeper.n_trials=14")
    for finished in (4, 9):
        search = Search(killed, *command, store=shared_store, seconds=0.1)
        wait_for(lambda number=finished: len(lines(killed, "finished.txt")) >= number)
        search.kill()
    last = Search(killed, *command, store=shared_store)
    assert last.wait() == 0, last.output.read_text()
    assert Search(undisturbed, *command, store=shared_store).wait() == 0

    study = study_of(killed)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 14
    assert Counter(lines(killed, "finished.txt")).most_common(1)[0][1] == 1, "none is repeated"
    assert len(lines(killed, "finished.txt")) == 14
    assert len(lines(killed, "started.txt")) <= 16, "only what was running starts again"
    assert study.best_value > 0.6, "the other region ends at 0.5"
    same = [trial.params for trial in study_of(undisturbed).trials]
    assert [trial.params for trial in study.trials] == same

    again = Search(killed, *command, store=shared_store)
    assert again.wait() == 0
    assert "14 finished: nothing is left to do" in again.output.read_text()
    assert len(lines(killed, "started.txt")) <= 16
    sweep = killed / "multirun" / NAME
    for name in ("history.svg", "importance.svg"):
        assert "<svg" in (sweep / name).read_text()
    shown = dict(sections_of(sweep))
    assert list(shown) == ["How the search went", "Which settings matter"]
    assert "diffusion.learning_rate" in shown["Which settings matter"]
    page = (sweep / "comparison.html").read_text()
    assert "Optimisation history" in page
    assert "study.journal" not in page, "which trial a job was is no setting"
    assert all("<?xml" not in drawing for drawing in shown.values())


def test_trials_without_a_value_failed_and_killed_ones_do_not_stop_a_search(tmp_path, shared_store):
    ranks = "diffusion.rank=choice(1,2,4)"
    search = Search(tmp_path, SPACE, ranks, "hydra.sweeper.n_trials=10", store=shared_store)
    assert search.wait() == 0, search.output.read_text()
    by_rank: dict[str, set[str]] = {}
    for trial in study_of(tmp_path).trials:
        by_rank.setdefault(trial.params["diffusion.rank"], set()).add(trial.state.name)
    assert by_rank == {"1": {"FAIL"}, "2": {"FAIL"}, "4": {"COMPLETE"}}
    said = search.output.read_text()
    assert "without a value" in said
    assert "failed" in said


@pytest.mark.slow
def test_a_killed_job_is_run_again_by_the_next_call_and_the_search_goes_on(tmp_path, shared_store):
    command = (SPACE, "diffusion.rank=choice(3,4)", "hydra.sweeper.n_trials=6")
    first = Search(tmp_path, *command, store=shared_store)
    assert first.wait() == 143, first.output.read_text()
    found = states(tmp_path)
    assert set(found.values()) == {"COMPLETE", "RUNNING"}
    assert len(found) == 6
    killed = [number for number, state in found.items() if state == "RUNNING"]
    started = Counter(lines(tmp_path, "started.txt"))
    assert Search(tmp_path, *command, store=shared_store).wait() == 143
    again = Counter(lines(tmp_path, "started.txt")) - started
    assert sorted(int(name.partition("-")[0]) for name in again) == killed
    assert set(again) <= set(started), "in the folder that it had"


@pytest.mark.slow
def test_two_commands_with_two_workers_each_share_a_study(tmp_path, shared_store):
    command = (
        *(SPACE, "diffusion.rank=choice(4,5)", "hydra.sweeper.n_trials=10"),
        *("hydra.launcher.workers=2", f"hydra.sweeper.storage=sqlite:///{tmp_path}/study.db"),
    )
    both = [Search(tmp_path, *command, store=shared_store, seconds=0.3) for _ in range(2)]
    assert [search.wait() for search in both] == [0, 0], both[0].output.read_text()
    study = study_of(tmp_path, f"sqlite:///{tmp_path}/study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 10
    assert len(lines(tmp_path, "started.txt")) == 10, "each trial once"
    assert len({trial.params["diffusion.learning_rate"] for trial in study.trials}) == 10
    ran = [search.output.read_text().count("finished  multi/intact") for search in both]
    assert sum(ran) == 10
    assert min(ran) > 0, "both took part"


@pytest.mark.slow
def test_the_next_trial_starts_when_one_ends_and_not_when_all_have(tmp_path, shared_store):
    command = (SPACE, "diffusion.rank=5", "hydra.sweeper.n_trials=3", "hydra.launcher.workers=2")
    search = Search(tmp_path, *command, store=shared_store, seconds=0.2)
    wait_for(lambda: len(lines(tmp_path, "started.txt")) == 3)
    ended = sum(state != "RUNNING" for state in states(tmp_path).values())
    assert 1 <= ended <= 2
    assert search.wait() == 0


def test_the_best_settings_are_an_experiment(tmp_path, shared_store):
    search = Search(
        tmp_path,
        *(SPACE, "method=choice(clif,mix_only)", "+experiment=clif", "diffusion.steps=7"),
        "hydra.sweeper.n_trials=4",
        store=shared_store,
    )
    assert search.wait() == 0, search.output.read_text()
    best = study_of(tmp_path).best_trial
    file = tmp_path / "multirun" / NAME / "best.yaml"
    content = yaml.safe_load(file.read_text())
    own = tmp_path / "my_configs" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(file.read_text())
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", [f"hydra.searchpath=[file://{own.parent}]", "+experiment=mine"])
    assert config.diffusion.learning_rate == pytest.approx(
        best.params["diffusion.learning_rate"], rel=1e-4
    )
    assert config.method.name == best.params["method"]
    assert (config.diffusion.steps, config.diffusion.batch_size) == (7, 4), "debug=fast has steps=4"
    assert config.name == content["name"] == f"best_{NAME}"
    assert config.objective is None
    assert OBJECTIVE in file.read_text().splitlines()[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["diffusion.rnk=choice(1,2)"], ["diffusion.rnk", "no such key"]),
        (["diffusion.rank=interval(4,16)"], ["diffusion.rank", "4.0", "integer"]),
        (["diffusion.rank=interval(16,4)"], ["diffusion.rank", "lower end", "interval("]),
        (["diffusion.rank=range(9,1)"], ["diffusion.rank", "empty"]),
        (["diffusion.learning_rate=tag(log,interval(0,1))"], ["learning_rate", "above 0"]),
        (["method=tag(log,choice(clif,mix_only))"], ["method", "log is for numbers"]),
        (["diffusion.rank=4"], ["hydra.sweeper.params", "nothing to search"]),
        (["method=choice(clif,clip,mix_only)"], ["method: 'clip' is no choice", "mix_only"]),
        (
            [SPACE, "+hydra.sweeper.params={diffusion.rank:'interval(1'}"],
            ["hydra.sweeper.params.diffusion.rank", "interval(1", "write interval("],
        ),
        ([SPACE, "objective=null"], ["objective", "null", "multi/intact"]),
        ([SPACE, "objective=multi/intct"], ["objective", "multi/intct", "did you mean"]),
        ([SPACE, "hydra.sweeper.n_trials=0"], ["hydra.sweeper.n_trials", "0", "greater than"]),
        ([SPACE, "hydra.sweeper.storage=mysql://host/db"], ["hydra.sweeper.storage", "sqlite:///"]),
        (
            [SPACE, "hydra.sweeper.sampler={_target_:optuna.samplers.None}"],
            ["hydra.sweeper.sampler"],
        ),
        ([SPACE, "pruning.metric=diffusion/los"], ["pruning.metric", "diffusion/loss"]),
        ([SPACE, "hydra.sweeper.direction=up"], ["hydra.sweeper.direction", "minimize"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_cannot_be_searched_is_refused_in_one_line(tmp_path, clif_exp, arguments, said):
    objective = ["objective=multi/intact"] if "objective" not in " ".join(arguments) else []
    result = clif_exp("-m", "hydra/sweeper=optuna", *objective, *arguments)
    assert result.code == 2, result.output
    assert result.errors.count("\n") == 1, result.errors
    for text in said:
        assert text in result.errors
    assert not list(tmp_path.glob("multirun/*/0*")), "no job has started"


def test_a_missing_optuna_is_refused_with_the_extra(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "optuna" else real(name)
    )
    with pytest.raises(ValueError, match=r'pip install "clif_exp\[optuna\]"'):
        prepare({}, config=None, context=None)


def test_other_launchers_get_batches(tmp_path, shared_store):
    command = (SPACE, "diffusion.rank=choice(1,4)", "hydra/launcher=basic")
    search = Search(
        tmp_path,
        *command,
        "hydra.sweeper.n_trials=5",
        "hydra.sweeper.workers=2",
        store=shared_store,
    )
    assert search.wait() == 0, search.output.read_text()
    assert set(states(tmp_path).values()) == {"COMPLETE", "FAIL"}
    assert len(lines(tmp_path, "started.txt")) == 5


def test_a_file_of_something_else_is_refused(tmp_path, shared_store):
    command = (SPACE, "hydra.sweeper.n_trials=1")
    first = Search(tmp_path, *command, store=shared_store)
    assert first.wait() == 0, first.output.read_text()
    journal = tmp_path / "multirun" / NAME / "study.journal"
    for name, content in {"notes.txt": "hello\nworld\n", "x.db": "hello"}.items():
        (tmp_path / name).write_text(content)
    refused = {
        f"hydra.sweeper.storage={tmp_path}/notes.txt": "notes.txt is no journal of Optuna",
        f"hydra.sweeper.storage=sqlite:///{tmp_path}/x.db": "x.db is no SQLite database",
        "hydra.sweeper.study_name=other": f"holds the study {NAME}, not other",
        "hydra.sweeper.direction=minimize": "direction: found minimize",
        "diffusion.rank=choice(4,8)": "hydra.sweeper.params: found diffusion.",
        "diffusion.steps=9": "overrides: found",
    }
    before = journal.read_bytes()
    for argument, said in refused.items():
        search = Search(tmp_path, *command, argument, store=shared_store)
        assert search.wait() == 2, argument
        (line,) = search.output.read_text().splitlines()
        assert said in line
    assert journal.read_bytes() == before
    assert (tmp_path / "notes.txt").read_text() == "hello\nworld\n"
    assert len(lines(tmp_path, "started.txt")) == 1
