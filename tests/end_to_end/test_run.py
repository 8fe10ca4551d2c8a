"""One run from the command line: what it leaves, what a second one reuses, what trackers get."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clif_exp.artifacts.store import ArtifactStore
from clif_exp.compare.reading import published, read
from clif_exp.compare.run import Run
from clif_exp.evaluation.metrics import objectives
from clif_exp.export.reading import read_card
from clif_exp.export.record import read_regional
from support import web_lora
from wandb_files import offline_runs, records_of, steps_of, summary_of

STAGES = ("curation", "contrastive", "diffusion", "generation", "evaluation")
# Everything in the table but what only a judge with DINO measures.
METRICS = {name for name in objectives() if not name.endswith("_dino")}
# A method with a stage 1 also measures what the untouched base model draws.
METRICS |= {
    f"{group}/{name.removeprefix('single/')}"
    for group in ("class_word", "stage1")
    for name in METRICS
    if name.startswith("single/")
}


def test_a_run_leaves_everything_the_readme_promises(finished):
    (folder,), summary = finished.folders, finished.summary()
    assert folder.parent.name == "default"
    assert folder.parent.parent.name == "runs"
    assert summary["status"] == "finished"
    assert summary["error"] is None
    assert summary["seed"] == 0
    assert (summary["experiment"], summary["method"], summary["model"], summary["dataset"]) == (
        "default",
        "clif",
        "toonworld",
        "toonworld",
    )
    for stage in STAGES:
        assert set(summary["stages"][stage]) == {
            "fingerprint",
            "reused",
            "seconds",
            "peak_memory_mb",
        }
    assert set(summary["metrics"]) >= METRICS
    names = [
        "run.log",
        "metrics.csv",
        ".hydra/config.yaml",
        ".hydra/overrides.yaml",
        "report.html",
        "export/README.md",
    ]
    names += [
        "export/pytorch_lora_weights.safetensors",
        "export/embeddings/milo.safetensors",
    ]
    for name in names:
        assert (folder / name).stat().st_size > 0, name
    assert web_lora(folder / "export").name.startswith("milo_otto_"), "named after the concepts"
    with safe_open(web_lora(folder / "export"), "pt") as lora:
        header = lora.metadata()
    assert float(header["ss_training_started_at"]) < float(header["ss_training_finished_at"])
    assert list((folder / "samples").glob("*.png"))
    with open(folder / "metrics.csv", newline="") as file:
        assert {row["stage"] for row in csv.DictReader(file)} == {"contrastive", "diffusion"}
    assert summary["report"].endswith("report.html")
    assert summary["export"].endswith("export")
    for shown in ("report.html", "export", "attendance", "leakage", "stage 1", "class"):
        assert shown in finished.output, "the table and the paths end the output"


def test_a_second_run_reuses_everything_and_says_so(clif_exp, finished):
    second = clif_exp("debug=fast")
    assert all(stage["reused"] for stage in second.summary()["stages"].values())
    assert second.summary()["metrics"] == finished.summary()["metrics"]
    assert second.output.count("reused") >= 10
    assert web_lora(second.folders[-1] / "export").is_file()


@pytest.mark.usefixtures("finished")
def test_before_a_stage_runs_its_cost_is_stated(clif_exp):
    result = clif_exp("debug=fast", "seed=5", "stages=[curation,contrastive,diffusion]")
    line = next(line for line in result.output.splitlines() if line.startswith("diffusion "))
    assert "4 steps" in line and "about" in line, line
    assert "reused" in next(
        line for line in result.output.splitlines() if line.startswith("segments ")
    )


@pytest.mark.usefixtures("finished")
def test_a_left_out_stage_is_taken_from_the_store_or_refused(clif_exp, tmp_path):
    partial = clif_exp("debug=fast", "stages=[evaluation]")
    assert partial.code == 0 and partial.summary()["metrics"], partial.errors
    assert partial.summary()["report"] is None
    missing = clif_exp("debug=fast", "stages=[generation]", "seed=77")
    assert missing.code == 2
    assert missing.summary()["status"] == "refused"
    assert "Traceback" not in missing.errors
    assert "stages: 'contrastive' is left out" in missing.errors
    only = clif_exp("debug=fast", "stages=[curation,report]")
    assert only.code == 0 and (only.folders[-1] / "report.html").is_file(), only.errors
    assert (
        "diffusion" not in only.summary()["stages"]
        or only.summary()["stages"]["diffusion"]["reused"]
    )
    again = clif_exp("debug=fast", "stages=[report]")
    assert again.code == 0 and again.summary()["metrics"], again.errors
    # Drawn again from what is trained, and the export says how.
    plain = ("debug=fast", "generation.guidance=null", "stages=[generation,evaluation]")
    resampled = clif_exp(*plain)
    assert resampled.code == 0 and resampled.summary()["metrics"], resampled.errors
    cards = [read_card(result.folders[-1] / "export") for result in (partial, resampled)]
    assert [read_regional(card) for card in cards] == [1.0, None]
    nothing = clif_exp("debug=fast", "stages=[report]", store=tmp_path / "store")
    assert nothing.code == 2 and nothing.summary()["status"] == "refused"
    assert "has nothing of this config; run it with its other stages first" in nothing.errors


@pytest.mark.usefixtures("finished")
def test_what_changes_no_result_changes_no_fingerprint(clif_exp):
    options = [
        "num_workers=1",
        "name=other",
        "logger=tensorboard",
        "generation.batch_size=3",
        "trainer.checkpoint_every_n_steps=2",
    ]
    result = clif_exp("debug=fast", *options)
    assert result.code == 0, result.errors
    assert all(stage["reused"] for stage in result.summary()["stages"].values())
    assert result.folders[-1].parent.name == "other"
    events = EventAccumulator(str(result.folders[-1] / "tensorboard")).Reload()
    assert [point.step for point in events.Scalars("diffusion/loss")] == [1, 2, 3, 4], "as stored"
    assert "multi/confusion" in events.Tags()["scalars"]
    wanted = {"diffusion/samples", "samples/pairs", "samples/training"}
    assert wanted | {"confusion_matrix/multi"} <= set(events.Tags()["images"])
    assert "images/text_summary" in events.Tags()["tensors"]


@pytest.mark.usefixtures("finished")
def test_each_job_of_a_sweep_has_its_own_wandb_run_with_everything_in_it(clif_exp):
    sweep = ("-m", "debug=fast", "logger=wandb", "logger.wandb.tags=[mine]", "name=tracked,again")
    attention = "evaluation.attention={singles: 1, pairs: 1}"
    result = clif_exp(*sweep, "objective=multi/confusion", attention)
    assert result.code == 0, result.errors
    (run,), (other,) = (offline_runs(folder) for folder in result.folders)
    assert run.name[-8:] != other.name[-8:]
    told, metrics = summary_of(run), result.summary(0)["metrics"]
    assert (told["state"], told["exit_code"]) == ("finished", 0)
    assert told["tags"] == ["mine", "clif", "toonworld"]
    assert told["config"]["diffusion"]["steps"] == 4
    found = told["summary"]
    assert found["multi/identity"] == {"max": pytest.approx(metrics["multi/identity"])}
    assert found["multi/confusion"] == {"min": pytest.approx(metrics["multi/confusion"])}
    assert found["objective"] == pytest.approx(metrics["multi/confusion"])
    media = {name: value["_type"] for name, value in found.items() if "_type" in str(value)}
    assert media["images"] == media["metrics"] == "table-file"
    assert media["curation"] == "html-file"
    for name in (
        "samples/pairs",
        "samples/attention",
        "diffusion/samples",
        "confusion_matrix/multi",
    ):
        assert media[name] == "image-file"
    (table,) = run.glob("files/media/table/images_*.table.json")
    assert json.loads(table.read_text())["columns"][:3] == ["image", "group", "prompt"]
    assert steps_of([run], "diffusion") == [1, 2, 3, 4], "the stored curve, once"
    steps = {
        record.get("glob_name"): record.get("step_metric") for record in records_of(run, "metric")
    }
    assert steps["diffusion/*"] == "diffusion/step"
    artifacts = {record["type"]: record for record in records_of(run, "artifact")}
    assert artifacts["model"]["name"] == "tracked-export"
    assert "use_after_commit" not in artifacts["model"]
    assert (
        artifacts["dataset"]["use_after_commit"] and artifacts["augmentation"]["use_after_commit"]
    )


def test_a_damaged_artifact_is_computed_again_with_the_same_result(
    clif_exp, finished, shared_store, tmp_path
):
    store = tmp_path / "store"
    shutil.copytree(shared_store, store)
    (damaged,) = [
        Path(record["path"])
        for record in ArtifactStore(store).records("diffusion")
        if record["fingerprint"] == finished.summary()["stages"]["diffusion"]["fingerprint"]
    ]
    weights = damaged / "pytorch_lora_weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = clif_exp("debug=fast", store=store)
    assert result.code == 0, result.errors
    line = f"diffusion: damaged (the content of {weights.name} has changed): set aside as {damaged}"
    assert line in result.output
    reused = {name: stage["reused"] for name, stage in result.summary()["stages"].items()}
    assert not reused.pop("diffusion")
    assert all(reused.values()), "its result is the same, so what was made from it still holds"
    assert result.summary()["metrics"] == finished.summary()["metrics"]


@pytest.mark.usefixtures("finished")
def test_artifacts_ls_shows_the_stages(shared_store):
    command = [sys.executable, "-m", "clif_exp.artifacts", "ls", "--root", str(shared_store)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(
        name in output for name in ("segments", "contexts", "augment_G", "diffusion", "evaluation")
    )
    records = ArtifactStore(shared_store).records("diffusion")
    assert records
    assert records[0]["versions"]["torch"]
    assert records[0]["inputs"]["base"]


def test_the_same_seed_gives_the_same_numbers(clif_exp, finished, store_with_curation):
    """That curation's files are the same again, test_ranks.py shows."""
    import torch
    from safetensors.torch import load_file

    second = clif_exp("debug=fast", store=store_with_curation(drawn=False))
    assert finished.summary()["metrics"] == second.summary()["metrics"]
    files = [
        result.folders[-1] / "export" / "pytorch_lora_weights.safetensors"
        for result in (finished, second)
    ]
    # The libraries write a file's header in any order; the numbers are what is promised.
    weights, again = (load_file(file) for file in files)
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.usefixtures("finished")
def test_a_run_shows_where_its_models_look_and_what_its_guidance_changes(clif_exp):
    more = ("evaluation.attention={singles: 1, pairs: 1}", "evaluation.redrawn=1")
    result = clif_exp("debug=fast", *more)
    assert result.code == 0, result.errors
    stages = result.summary()["stages"]
    recorded = {"attention_class_word", "attention_stage1", "attention"}
    computed = {name for name, stage in stages.items() if not stage["reused"]}
    assert "generation_plain" in computed <= recorded | {"generation_plain", "evaluation"}
    assert recorded <= set(stages)
    for name in ("attention", "redrawn"):
        assert (result.folders[-1] / "samples" / f"{name}.png").is_file()
    (run,) = read([result.folders[-1]])
    drawn = drawn_by(run, "generation_plain")
    assert len(drawn) == 1
    for key, image in drawn.items():
        assert np.abs(drawn_by(run, "generation")[key] - image).mean() > 2, "not as it was"
    assert 'id="attention"' in (result.folders[-1] / "report.html").read_text()
    shown = clif_exp("debug=fast", *more, "stages=[report]")
    assert shown.code == 0 and shown.summary()["metrics"] == result.summary()["metrics"]


@pytest.mark.slow
def test_make_run_in_full(clif_exp):
    result = clif_exp("callbacks=quiet")
    assert result.code == 0, result.errors
    summary = result.summary()
    assert summary["metrics"]["multi/attendance"] > 0.5
    json.dumps(summary, allow_nan=False)


def test_without_stage_2_the_base_model_draws_from_stage_1s_tokens(clif_exp):
    result = clif_exp("debug=fast", "method=stage1_only")
    assert result.code == 0, result.errors
    summary = result.summary()
    assert "diffusion" not in summary["stages"]
    assert summary["export"] is None
    (run,) = read([result.folders[-1]])
    drawn = drawn_by(run, "generation")
    for before in ("generation_stage1", "generation_prior"):
        same = {key: image for key, image in drawn_by(run, before).items() if key in drawn}
        assert same
        for key, image in same.items():
            # Batches are cut differently, so images differ in rounding: by 0.4 of 255 with AMX.
            assert np.abs(drawn[key] - image).mean() < 2, key


def drawn_by(run: Run, artifact: str) -> dict[tuple[str, int], np.ndarray]:
    """Prompt and seed -> image, of what a stage has drawn."""
    folder = published(run, artifact)
    lines = map(json.loads, (folder / "generations.jsonl").read_text().splitlines())
    return {
        (line["prompt"], line["seed"]): np.asarray(Image.open(folder / line["file"]), dtype=float)
        for line in lines
    }
