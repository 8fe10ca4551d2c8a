"""Runs are read from folders, sweeps and saved files; what is broken is told, and nothing lost."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from clif_exp.compare.config_values import flat_settings
from clif_exp.compare.reading import read
from clif_exp.compare.saved import write_saved
from clif_exp.runs.messages import config_folder
from clif_exp.secrets import HIDDEN
from run_folders import write_run, write_sweep

_STAGE = {"fingerprint": "e", "seconds": 1.0, "reused": False}


def test_a_folder_that_holds_nothing_but_a_file_of_runs_names_it(tmp_path):
    (tmp_path / "runs.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds no run.*give its file of runs, .*runs\.json"):
        read([tmp_path])


def test_a_sweep_names_its_jobs_by_what_differs(tmp_path):
    jobs = {
        ("debug=fast", f"+experiment={name}", f"seed={seed}"): {"multi/confusion": 0.5}
        for name in ("clif", "ablate_maug")
        for seed in (0, 1)
    }
    sweep = write_sweep(tmp_path / "multirun" / "default", jobs)
    runs = read([tmp_path / "multirun"])
    assert sorted(run.name for run in runs) == [
        "experiment=ablate_maug seed=0",
        "experiment=ablate_maug seed=1",
        "experiment=clif seed=0",
        "experiment=clif seed=1",
    ]
    assert {run.sweep for run in runs} == {sweep}
    assert {run.settings["name"] for run in runs} == {"clif", "ablate_maug"}
    (one,) = read([runs[0].folder])
    assert one.name == runs[0].name, "also where only one job of the sweep is compared"


def test_a_run_outside_a_sweep_is_named_by_its_place(tmp_path):
    folder = write_run(tmp_path / "runs" / "default" / "2026-01-01", "seed=3")
    (run,) = read([tmp_path])
    assert (run.name, run.sweep, run.seed) == ("default/2026-01-01", None, 3)
    assert run.folder == folder


def test_a_folder_given_twice_is_read_once(tmp_path):
    folder = write_run(tmp_path / "runs" / "default" / "a")
    write_run(folder / ".rank_1")  # another rank's own folder is no run
    assert len(read([tmp_path, folder, tmp_path / "runs"])) == 1


def test_runs_may_be_called_like_what_lies_in_a_run(tmp_path):
    for name in ("samples", "export", "wandb"):
        write_run(tmp_path / "runs" / name / "a")
    assert len(read([tmp_path])) == 3


def test_settings_are_those_that_omegaconf_resolves():
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        composed = hydra.compose("config", ["augmentation.background_share=0.25"])
    as_written, resolved = (
        OmegaConf.to_container(composed, resolve=resolve) for resolve in (False, True)
    )
    assert "${" in str(as_written)
    found = flat_settings(as_written)
    assert found == flat_settings(resolved)
    assert found["augmentation.mix.background_share"] == 0.25


def test_settings_are_flat_and_hold_no_secret(tmp_path):
    (run,) = read([write_run(tmp_path / "a", "augmentation.background_share=0.25")])
    assert run.settings["artifacts.root"] == "./artifacts"
    assert run.settings["diffusion.target_modules"] == "[to_q, to_k]"
    assert flat_settings({"a": {"api_key": "sk-123456"}})["a.api_key"] == HIDDEN
    left = {"a": "${oc.env:HOME}", "b": "${b}", "c": "${gone}"}
    assert flat_settings(left) == left, "what cannot be followed stays as it is written"


def test_costs_curves_images_and_concepts_are_found_in_the_store(tmp_path):
    stages = {
        "diffusion": {"seconds": 60.0, "reused": True, "peak_memory_mb": 900.0, "fingerprint": "d"},
        "generation": {"seconds": 30.0, "reused": False, "fingerprint": "g"},
        "evaluation": {"seconds": 1.0, "reused": False, "fingerprint": "e"},
    }
    folder = write_run(tmp_path / "runs" / "default" / "a", stages=stages)
    (folder / "metrics.csv").write_text(
        "stage,step,loss,validation_loss\ndiffusion,1,0.5,\ndiffusion,2,nan,0.4\ndiffusion,3"
    )
    images = tmp_path / "artifacts" / "generation" / "g" / "images"
    images.mkdir(parents=True)
    (images / "a.png").write_bytes(b"")
    lines = [
        {"file": f"images/{name}.png", "prompt": "<milo>", "seed": 1, "kind": "single"}
        for name in "ab"
    ]
    (images.parent / "generations.jsonl").write_text("\n".join(map(json.dumps, lines)))
    evaluation = tmp_path / "artifacts" / "evaluation" / "e"
    evaluation.mkdir(parents=True)
    judged = {"multi": {"attendance": {"milo": 0.5}, "confusion": {"milo": 0.25}}}
    (evaluation / "confusion_matrix.json").write_text(json.dumps(judged))
    (run,) = read([folder])
    assert run.seconds["diffusion"] == 60.0
    assert run.peak_memory_mb == {"diffusion": 900.0}
    assert run.reused == ["diffusion"]
    assert run.curves == {
        "diffusion/loss": [(1, 0.5)],
        "diffusion/validation_loss": [(2, 0.4)],
    }
    assert [(image.file.name, image.part) for image in run.images] == [("a.png", "single")]
    assert run.concepts == {"milo": {"attendance": 0.5, "confusion": 0.25}}
    shutil.rmtree(tmp_path / "artifacts")
    (run,) = read([folder])
    assert (run.images, run.concepts) == ([], {})


def test_a_job_in_a_process_of_its_own_and_a_store_elsewhere_are_found(tmp_path):
    folder = write_run(tmp_path / "sweep" / "job", "seed=1", stages={"evaluation": _STAGE})
    (folder / ".hydra" / "hydra.yaml").write_text(
        f"hydra:\n  mode: MULTIRUN\n  runtime:\n    cwd: {tmp_path / 'started'}\n"
    )
    store = tmp_path / "started" / "artifacts" / "evaluation" / "e"
    store.mkdir(parents=True)
    (store / "confusion_matrix.json").write_text('{"multi": {"attendance": {"milo": 1.0}}}')
    (run,) = read([folder])
    assert run.sweep == tmp_path / "sweep", "a sweeper that leaves no multirun.yaml"
    assert run.name == "sweep/job", "nothing differs among one job"
    assert run.concepts == {"milo": {"attendance": 1.0}}, "beside where the job was started"


def test_a_broken_run_is_told_in_one_line_and_kept(tmp_path, caplog):
    half = write_run(tmp_path / "half", "seed=1")
    (half / "summary.json").write_text('{"status": "fini')
    never = write_run(tmp_path / "never", "seed=2")
    (never / "summary.json").unlink()
    no_config = write_run(tmp_path / "no_config", "method=mix_only", metrics={"multi/intact": 0.5})
    (no_config / ".hydra" / "config.yaml").unlink()
    later = write_run(tmp_path / "later", status="paused")
    with caplog.at_level(logging.WARNING):
        runs = {run.folder: run for run in read([tmp_path])}
    assert set(runs) == {half, never, no_config, later}
    assert (runs[half].status, runs[never].status) == ("killed", "killed")
    assert "half-written" in runs[half].error
    assert runs[half].settings["seed"] == 1, "what its config says is kept"
    assert runs[no_config].settings["method.name"] == "mix_only"
    assert runs[no_config].metrics == {"multi/intact": 0.5}
    assert len(caplog.messages) == 4
    assert not any("\n" in message for message in caplog.messages)
    assert any("'paused' is unknown here" in message for message in caplog.messages)


def test_what_holds_no_run_is_refused_with_what_would_do(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: holds no run .*multirun/NAME"):
        read([tmp_path / "empty"])
    with pytest.raises(ValueError, match="gone: does not exist"):
        read([tmp_path / "gone"])
    foreign = tmp_path / "foreign" / "summary.json"
    foreign.parent.mkdir()
    foreign.write_text('{"accuracy": 1}')
    with pytest.raises(ValueError, match="foreign: no run of clif_exp"):
        read([foreign.parent])
    file = tmp_path / "results.json"
    for text in ('{"runs": {}}', '{"clif_exp_runs": 1, "ru', "[]"):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"results.json: neither a folder nor a whole file"):
            read([file])
    file.write_text('{"clif_exp_runs": 99, "runs": []}')
    with pytest.raises(ValueError, match="format 99 of a later clif_exp"):
        read([file])


@pytest.fixture
def runs(tmp_path):
    facts = {"command": "python -m clif_exp", "commit": "abc", "hardware": "a CPU"}
    sweep = tmp_path / "multirun" / "s"
    for seed in range(3):
        write_run(
            sweep / f"seed={seed}",
            f"seed={seed}",
            f"artifacts.root={tmp_path}/store",
            metrics={"multi/confusion": 1 / 3 + seed, "multi/pairs_seen/side": None, "odd": 1.0},
            provenance=facts | {"started": f"2026-01-0{seed + 1}"},
            stages={"diffusion": {"seconds": 1.23456789, "reused": seed > 0}},
        )
    (sweep / "multirun.yaml").write_text("")
    return read([sweep])


def test_a_saved_file_reads_like_its_folder(tmp_path, runs):
    file = tmp_path / "kept" / "runs.json"
    write_saved(file, runs)
    again = read([file])
    for found, run in zip(again, runs, strict=True):
        assert (found.name, found.status, found.seed) == (run.name, run.status, run.seed)
        assert list(found.metrics) == list(run.metrics)
        assert found.metrics["multi/pairs_seen/side"] is None
        assert found.metrics["multi/confusion"] == pytest.approx(1 / 3 + run.seed, rel=1e-5)
        assert found.provenance == run.provenance
        assert found.reused == run.reused
        assert found.settings == {
            key: value for key, value in run.settings.items() if not key.startswith(("pa", "ar"))
        }
    assert str(tmp_path) not in file.read_text(), "where things lay on this machine"


def test_a_saved_command_runs_elsewhere(tmp_path, runs):
    command = "python -m clif_exp method=clif 'generation.seeds=[0, 1]'"
    here = f"{command} artifacts.root={tmp_path} +paths.runs={tmp_path}"
    write_saved(
        tmp_path / "runs.json", [replace(runs[0], provenance={"command": here, "commit": "abc"})]
    )
    assert read([tmp_path / "runs.json"])[0].provenance == {"command": command, "commit": "abc"}


def test_a_saved_file_is_small_stable_and_changes_where_a_number_does(tmp_path, runs):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    write_saved(first, runs)
    write_saved(second, read([first]))
    assert first.read_bytes() == second.read_bytes()
    lines = first.read_text().splitlines()
    second.write_text(first.read_text().replace("1.33333", "1.5"))
    changed = [a for a, b in zip(lines, second.read_text().splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    assert sum('"diffusion.rank"' in line for line in lines) == 1, "what all share stands once"
