"""Trackers of whole runs: live, over a kill, without a network, and under a W&B sweep's agent."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.sdk.launch.sweeps import utils as agent

from clif_exp.runs.tracking.continuing import LEDGER
from conftest import CHECKOUT
from wandb_files import history_of, offline_runs, steps_of, summary_of

TRACKED = ["debug=fast", "logger=wandb", "logger.tensorboard={folder: tensorboard}"]


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    with open(folder / "output.txt", "a") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "clif_exp", *arguments],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_killed_in_stage_2_has_points_and_goes_on_as_the_same_run(
    clif_exp, base_models, tmp_path, store_with_curation, how
):
    clif_exp("debug=fast")
    store = store_with_curation("contrastive")
    steps, every = 600, 50  # W&B writes first after 15 s, in which a quiet machine takes 200 steps
    long = [f"diffusion.steps={steps}"]
    long += [f"diffusion.{part}.every={every}" for part in ("samples", "validation")]
    command = [*base_models, *TRACKED, *long, f"artifacts.root={store}"]
    folder = tmp_path / "killed"
    job = start(folder, *command, "trainer.checkpoint_every_n_steps=4")
    deadline = time.monotonic() + 300
    live: list[int] = []
    while not live:
        assert job.poll() is None and time.monotonic() < deadline, (
            folder / "output.txt"
        ).read_text()
        time.sleep(1)
        if written := [run for place in folder.glob("runs/*/*") for run in offline_runs(place)]:
            live = steps_of(written, "diffusion")
    job.send_signal(how)
    job.wait(180)
    assert list(store.glob("diffusion/*.partial")), "before the stage ended"
    (first,) = folder.glob("runs/default/*")
    (before,) = offline_runs(first)
    live = steps_of([before], "diffusion")
    assert live == list(range(1, len(live) + 1))
    assert steps_of([before], "diffusion", "samples._type")[0] == 0
    assert steps_of([before], "contrastive") == [1, 2, 3, 4], "a reused stage, as stored"
    assert summary_of(before)["exit_code"] == (None if how == signal.SIGKILL else 143)
    board = EventAccumulator(str(first / "tensorboard")).Reload()
    assert len(board.Scalars("diffusion/loss")) >= 1

    again = start(folder, *command, "trainer.checkpoint_every_n_steps=4")
    assert again.wait(500) == 0, (folder / "output.txt").read_text()
    second = max(folder.glob("runs/default/*"))
    (after,) = offline_runs(second)
    assert after.name[-8:] == before.name[-8:], "one run"
    assert not (first / LEDGER).exists()
    assert steps_of([before, after], "diffusion") == list(range(1, steps + 1)), (
        "none twice, none missing"
    )
    samples = steps_of([before, after], "diffusion", "samples._type")
    assert samples == list(range(0, steps + 1, every))
    assert history_of(after)[0]["_step"] > history_of(before)[-1]["_step"]
    assert steps_of([after], "contrastive") == []
    assert summary_of(after)["exit_code"] == 0
    board = EventAccumulator(str(second / "tensorboard")).Reload()
    points = [point.step for point in board.Scalars("diffusion/loss")]
    assert points == list(range(1, steps + 1)), "a folder of its own has all of it"


@pytest.mark.slow
def test_a_run_whose_wandb_server_hangs_ends_as_any_other(clif_exp):
    plain = clif_exp("debug=fast")
    began = time.monotonic()
    clif_exp("debug=fast")
    usual = time.monotonic() - began
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:  # accepts, never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        result = clif_exp(
            *("debug=fast", "logger=wandb", "logger.wandb.mode=online"),
            WANDB_BASE_URL=address,
            WANDB_API_KEY="a" * 40,
        )
    assert result.code == 0, result.errors
    assert time.monotonic() - began < usual + 13, "10 s, and W&B's import"
    assert result.output.count("The run goes on without it.") == 1
    assert result.summary()["metrics"] == plain.summary()["metrics"]


@pytest.mark.parametrize("file", sorted(CHECKOUT.glob("sweeps/*.yaml")), ids=lambda file: file.stem)
def test_a_wandb_agents_command_runs(clif_exp, file):
    sweep = yaml.safe_load(file.read_text())
    # As an agent draws them: one value each.
    values = {
        key: stated["values"][0] if "values" in stated else stated["max"]
        for key, stated in sweep["parameters"].items()
    }
    given = {"args": {key: {"value": value} for key, value in values.items()}}
    known = agent.create_sweep_command_args(given) | {"env": ["/usr/bin/env"]}
    command: list[str] = []
    for part in agent.create_sweep_command(sweep["command"]):
        command += known[part[2:-1]] if part.startswith("${") else [part]
    assert command[:4] == ["/usr/bin/env", "python", "-m", "clif_exp"]
    result = clif_exp(
        *command[4:],
        *("debug=fast", "logger.wandb.mode=offline"),
        *("dataset.cast_seed=null", "generation.prompts.split=reporting"),  # as other tests'
        WANDB_SWEEP_ID="sweep123",
        WANDB_RUN_ID="agent123",
    )
    assert result.code == 0, result.errors
    (run,) = offline_runs(result.folders[-1])
    assert run.name.endswith("-agent123"), "the agent's own run"
    told = summary_of(run)
    assert sweep["metric"]["name"] in told["summary"]
    for key, value in values.items():
        found = told["config"]
        for part in key.split("."):
            found = found[part]
        assert found == value, key
