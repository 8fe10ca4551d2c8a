"""Experiments and sweeps: shared work is done once, and a refused job stops no other."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from clif_exp.artifacts.locks import process_lock
from clif_exp.compare.reading import published, read
from clif_exp.compare.writing import ENDINGS, EVERYTHING, RUNS
from clif_exp.runs.messages import choices, config_folder
from clif_exp.studies.figures import CAPTIONS
from stopped_sweeps import SHORT, started_sweep, summaries, wait_for_jobs, wait_for_orphans


@pytest.mark.parametrize("method", choices("method"))
def test_every_method_runs_with_a_tiny_budget(clif_exp, method):
    states = (config_folder() / "method" / f"{method}.yaml").read_text()
    few = ["diffusion.prior={images: 0, class_images: 2}"] if "class_images" in states else []
    result = clif_exp(f"method={method}", "debug=fast", *few)
    assert result.code == 0, result.errors
    assert result.summary()["method"] == method
    assert result.summary()["metrics"]


def test_a_study_keeps_its_runs_tables_and_figures(clif_exp, tmp_path):
    few = ("dataset.cast_seed=null", "dataset.size=2", "seed=0", "method=clif,clif_without_m")
    budget = ("debug=fast", "diffusion.images_per_concept=8", "generation.seeds=[0]")
    drawn = (
        "evaluation.attention.pairs=1",
        "evaluation.general_pairs.pairs=2",
        "evaluation.general_pairs.seeds=[0]",
        "hydra.sweeper.keep.figures=[{kind: distance}, {kind: attendance},"
        " {kind: attention, rows: 1},"
        " {kind: images, layouts: [side], pairs: any, concepts: 2, rows: 9}]",
    )
    result = clif_exp("+experiment=table2", *budget, *few, *drawn)
    assert result.code == 0, result.errors
    assert {folder.parent.name for folder in result.folders} == {"table2"}
    kept = tmp_path / "experiments" / "table2"
    figures = {"distance.svg", "attendance.svg", "attention.png", "images.png"}
    numbers = {Path(name).with_suffix(".json").name for name in figures}
    tables = {f"table{end}" for end in ENDINGS} | {EVERYTHING}
    there = {file.name for file in kept.iterdir()}
    assert there == figures | numbers | tables | {RUNS, CAPTIONS}
    by_method = {run.settings["method.name"]: run for run in read([kept / RUNS])}
    for index, method in enumerate(("clif", "clif_without_m")):
        measured = result.summary(index)["metrics"]["multi/identity"]
        assert by_method[method].metrics["multi/identity"] == pytest.approx(measured, rel=1e-5)
    assert "clif_without_m" in (kept / "table.md").read_text()
    assert "minutes" in (kept / EVERYTHING).read_text()
    captions = (kept / CAPTIONS).read_text()
    assert all(f"({name})" in captions for name in figures)
    shown = json.loads((kept / "images.json").read_text())
    (row,) = shown["rows"]
    assert " on the left and " in row["prompt"]
    assert set(row["intact"]) == {"method=clif", "method=clif_without_m"}
    distance = json.loads((kept / "distance.json").read_text())
    assert len(distance["points"]["general concepts"]) == 2
    # Two concepts of two class words: before stage 1 they were nearer than after it.
    (point,) = distance["points"]["method=clif"]
    (run, *_) = read([result.folders[0]])
    evaluated = published(run, "evaluation")
    stages = json.loads((evaluated / "distances.json").read_text())["stages"]
    assert point["contextual"] == stages["after stage 1"]["contextual"]["matrix"][0][1]
    overlaps = json.loads((kept / "attention.json").read_text())["overlap"]["method=clif"]
    assert set(overlaps) == {"attention_class_word", "attention_stage1", "attention"}


def test_jobs_of_a_sweep_share_what_they_have_in_common(clif_exp, tmp_path):
    result = clif_exp("-m", "+experiment=clif,ablate_raug", "debug=fast", "augmentation.seed=3")
    assert result.code == 0, result.errors
    full, ablated = result.summary(0), result.summary(1)
    assert (full["experiment"], ablated["experiment"]) == ("clif", "ablate_raug")
    for name in ("dataset", "segments", "contexts", "augment_G", "augment_M"):
        assert ablated["stages"][name]["reused"], name
        assert ablated["stages"][name]["fingerprint"] == full["stages"][name]["fingerprint"]
    assert "augment_R" in full["stages"]
    assert "augment_R" not in ablated["stages"]
    for name in ("contrastive", "diffusion", "generation", "evaluation"):
        assert not ablated["stages"][name]["reused"], name
    for name in ("generation_prior", "generation_class_word"):
        assert ablated["stages"][name]["reused"], "the base model's images are shared"
    assert not ablated["stages"]["generation_stage1"]["reused"]
    folders = [folder.relative_to(tmp_path).parts for folder in result.folders]
    assert [parts[:2] for parts in folders] == [("multirun", "experiment")] * 2
    assert [parts[2].rsplit("-", 1)[0] for parts in folders] == [
        "experiment=clif",
        "experiment=ablate_raug",
    ]


def test_seeds_share_the_base_models_prior_images(clif_exp):
    budget = ("debug=fast", "stages=[curation,contrastive,diffusion]")
    kept = ("diffusion.prior.seed=7", "diffusion.prior_target=teacher")
    result = clif_exp("-m", *budget, *kept, "seed=0,1")
    assert result.code == 0, result.errors
    first, second = result.summary(0)["stages"], result.summary(1)["stages"]
    assert not first["prior_images"]["reused"]
    assert second["prior_images"]["reused"]
    assert not second["diffusion"]["reused"]


def test_a_refused_job_says_so_and_the_others_run(clif_exp):
    result = clif_exp("-m", "debug=fast", "diffusion.accumulate=3,1")
    assert result.code != 0
    by_status = {result.summary(index)["status"]: result.summary(index) for index in range(2)}
    assert set(by_status) == {"refused", "finished"}
    assert "diffusion.accumulate" in by_status["refused"]["error"]
    assert result.errors.count("clif_exp: error:") == 1
    assert "Traceback" not in result.errors


def test_a_search_from_the_config_runs_all_its_jobs(clif_exp):
    result = clif_exp("hparams_search=grid", *SHORT, "diffusion.learning_rate=5.0e-4")
    assert result.code == 0, result.errors
    assert len(result.folders) == 2, "what the command line states replaces the config's values"
    assert all(folder.parent.name == "grid" for folder in result.folders)


def test_the_same_value_twice_is_one_job_in_the_folder_of_the_chosen_name(clif_exp, tmp_path):
    result = clif_exp("-m", *SHORT, "seed=0,0", "name=mine")
    assert result.code == 0, result.errors
    (folder,) = result.folders
    assert folder.parent == tmp_path / "multirun" / "mine"


def test_a_sweep_is_put_where_it_was_asked_for_and_settings_may_follow_what_is_swept(clif_exp):
    follows = "generation.prompts.seed=${seed}"
    result = clif_exp("-m", *SHORT, follows, "seed=101,102", "++hydra.sweep.dir=elsewhere")
    assert result.code == 0, result.errors
    assert [folder.parent.name for folder in result.folders] == ["elsewhere"] * 2
    stated = [
        OmegaConf.load(folder / ".hydra" / "config.yaml").generation.prompts.seed
        for folder in result.folders
    ]
    assert sorted(stated) == [101, 102]
    assert f"'{follows}'" in result.summary()["provenance"]["command"]


def test_a_config_may_say_where_its_sweep_is_put_and_sweep_a_dictionary(clif_exp, tmp_path):
    own = tmp_path / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [clif]\nhydra:\n  sweep: {dir: elsewhere}\n"
        "  mode: MULTIRUN\n  sweeper:\n    params: {generation.prompts: {split: tuning}}\n"
    )
    result = clif_exp(*SHORT, "--config-dir", "own", "+experiment=mine")
    assert result.code == 0, result.errors
    (config,) = (tmp_path / "elsewhere").glob("*/.hydra/config.yaml")
    assert OmegaConf.load(config).generation.prompts.split == "tuning"


def test_two_sweeps_into_one_folder_at_once_are_refused(clif_exp, tmp_path):
    with process_lock(tmp_path / "multirun" / "mine" / ".sweep.lock"):
        result = clif_exp("-m", *SHORT, "seed=0,1", "name=mine")
    assert result.code == 2
    assert result.errors.startswith("clif_exp: error: name: another sweep writes into")
    assert len(result.errors.splitlines()) == 1
    assert not result.folders


def test_a_killed_sweep_goes_on_and_takes_in_a_new_value(
    clif_exp, start_clif_exp, tmp_path, shared_store
):
    values = "augmentation.seed=8,9"
    with started_sweep(
        start_clif_exp, *SHORT, values, folder=tmp_path, store=shared_store
    ) as sweep:
        first = wait_for_jobs(sweep, tmp_path / "multirun", finished=1)
        sweep.kill()
    wait_for_orphans(tmp_path / "multirun")
    made = built(shared_store)
    again = clif_exp("-m", *SHORT, f"{values},10")
    assert again.code == 0, again.errors
    assert "3 jobs, 1 of them finished: " in again.output
    assert summaries(tmp_path / "multirun")[first.name]["status"] == "finished"
    assert [one["status"] for one in summaries(tmp_path / "multirun").values()] == ["finished"] * 3
    assert made.items() <= built(shared_store).items(), "what was finished stays as it is"
    assert again.output.count("finished") == 1 + 2 + 3, "the plan, two jobs' ends, the table"
    nothing = clif_exp("-m", *SHORT, f"{values},10")
    assert nothing.code == 0 and "3 jobs, 3 of them finished: nothing is left" in nothing.output


def test_own_configs_lie_beside_an_installed_package(clif_exp, tmp_path):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [clif]\nname: mine\naugmentation: {seed: 5}\n"
    )
    place = f"hydra.searchpath=[file://{tmp_path / 'own'}]"
    result = clif_exp("-m", *SHORT, "+experiment=mine,clif", place)
    assert result.code == 0, result.errors
    assert sorted(result.summary(index)["experiment"] for index in range(2)) == ["clif", "mine"]


@pytest.mark.slow
def test_ddp_jobs_of_a_sweep_run_each_once(clif_exp, tmp_path):
    store = tmp_path / "store"
    own = tmp_path / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\ndefaults: [clif]\nname: seed\n")
    given = ("debug=fast", "trainer=ddp_sim", "seed=0,1,2", "hydra.launcher.workers=2")
    # each job starts a command of its own, which must find the user's configs, too
    mine = ("--config-dir", str(tmp_path / "own"), "+experiment=mine")
    result = clif_exp("-m", *mine, *given, store=store)
    assert result.code == 0, result.errors[-2000:]
    assert [result.summary(index)["status"] for index in range(3)] == ["finished"] * 3
    assert len(list((tmp_path / "multirun" / "seed").glob("*/summary.json"))) == 3
    assert len(list((tmp_path / "multirun" / "seed").glob("*/.rank_1/summary.json"))) == 3
    assert len(list(store.glob("diffusion/*/artifact.json"))) == 3
    each_once([result.summary(index) for index in range(3)], store=store)


@pytest.mark.slow
def test_a_job_that_is_killed_says_so_and_the_others_run(start_clif_exp, tmp_path):
    store = tmp_path / "store"
    given = ("debug=fast", "seed=0,1", "callbacks=quiet")
    with started_sweep(start_clif_exp, *given, folder=tmp_path, store=store) as sweep:
        while not list(store.glob("segments/*.partial")):
            assert sweep.is_alive()
            time.sleep(0.05)
        (job,) = Path(f"/proc/{sweep.pid}/task/{sweep.pid}/children").read_text().split()
        os.kill(int(job), signal.SIGKILL)
        assert sweep.wait(600).returncode == 143
    found = sorted(summaries(tmp_path / "multirun").items())
    assert [one["status"] for _, one in found] == ["killed", "finished"]
    assert found[0][1]["error"].startswith("killed by SIGKILL, as the system does when memory runs")


@pytest.mark.slow
def test_eight_jobs_killed_twice_end_as_if_undisturbed(clif_exp, start_clif_exp, tmp_path):
    rates = "diffusion.learning_rate=-1,1.0e-4,1.0e30,2.0e-4,3.0e-4,4.0e-4,5.0e-4,6.0e-4"
    given = ("debug=fast", "callbacks=quiet", rates, "hydra.launcher.workers=2")
    store, multirun = tmp_path / "store", tmp_path / "multirun"
    versions: dict[str, set[str]] = {}
    chance = random.Random(time.time_ns())
    for call in range(2):
        with started_sweep(start_clif_exp, *given, folder=tmp_path, store=store) as sweep:
            wait_for_jobs(sweep, multirun, finished=1 + 2 * call)
            end = time.monotonic() + chance.uniform(0, 20)
            while time.monotonic() < end and sweep.is_alive():
                note_versions(store, versions)
                time.sleep(0.1)
            sweep.kill()
        wait_for_orphans(multirun)
    with started_sweep(start_clif_exp, *given, folder=tmp_path, store=store) as sweep:
        while sweep.is_alive():
            note_versions(store, versions)
            time.sleep(0.1)
        ended = sweep.wait(60)
    assert ended.returncode == 2
    note_versions(store, versions)
    assert versions and all(len(seen) == 1 for seen in versions.values()), "built twice"
    killed = summaries(multirun)
    undisturbed = clif_exp("-m", *given, "name=undisturbed", store=tmp_path / "other")
    assert undisturbed.code == 2
    expected = summaries(multirun / "undisturbed")
    by_rate = {name.rpartition("-")[0]: one for name, one in expected.items()}
    assert len(killed) == len(by_rate) == 8
    for name, one in killed.items():
        same = by_rate[name.rpartition("-")[0]]
        assert (one["status"], one["metrics"]) == (same["status"], same["metrics"]), name
        assert prints(one) == prints(same), name
    ends = {name.split("=")[1].rpartition("-")[0]: one for name, one in killed.items()}
    assert sorted(one["status"] for one in ends.values()) == [
        "failed",
        *["finished"] * 6,
        "refused",
    ]
    assert "diffusion.learning_rate: found -1" in ends["-1"]["error"]
    assert "loss" in ends["1e+30"]["error"]
    each_once(killed.values(), store=store)


def built(store: Path) -> dict[str, str]:
    """Each finished artifact's record -> its text; built again, its times would be others."""
    found = {}
    for file in store.glob("*/*/artifact.json"):
        if ".partial" not in file.parent.name:
            with contextlib.suppress(FileNotFoundError):
                found[str(file)] = file.read_text()
    return found


def note_versions(store: Path, versions: dict[str, set[str]]) -> None:
    """Note each finished artifact's record as it is now."""
    for file, text in built(store).items():
        versions.setdefault(file, set()).add(text)


def prints(summary: dict[str, Any]) -> dict[str, str]:
    """What a run calls an artifact -> its fingerprint."""
    return {name: stage["fingerprint"] for name, stage in summary["stages"].items()}


def each_once(jobs: Iterable[dict[str, Any]], *, store: Path) -> None:
    """No artifact was built by two jobs."""
    artifacts = {file.parent.name for file in store.glob("*/*/artifact.json")}
    made = Counter(
        stage["fingerprint"]
        for summary in jobs
        for stage in {one["fingerprint"]: one for one in summary["stages"].values()}.values()
        if not stage["reused"] and stage["fingerprint"] in artifacts
    )
    assert made and set(made.values()) == {1}
