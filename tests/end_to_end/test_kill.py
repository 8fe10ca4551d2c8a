"""A run killed at any point: the same command then ends with an undisturbed run's metrics."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest


def kill_during(
    stage: str, *, start_clif_exp, folder: Path, store: Path, how: signal.Signals
) -> dict:
    """Start a run, kill it as soon as a stage is under way, and return the summary that it left."""
    command = start_clif_exp("debug=fast", folder=folder, store=store)
    deadline = time.monotonic() + 600
    while not list(store.glob(f"{stage}/*.partial")):
        assert command.is_alive() and time.monotonic() < deadline, command.said()
        time.sleep(0.01)
    time.sleep(0.3)
    command.kill(how)
    command.wait(120)
    (file,) = folder.glob("runs/*/*/summary.json")
    return json.loads(file.read_text())


@pytest.mark.parametrize(
    ("stage", "how"),
    [
        ("diffusion", signal.SIGKILL),
        pytest.param("diffusion", signal.SIGTERM, marks=pytest.mark.slow),
        *(
            pytest.param(name, signal.SIGKILL, marks=pytest.mark.slow)
            for name in ("segments", "contexts", "contrastive", "generation")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_killing_and_rerunning_ends_as_if_undisturbed(
    clif_exp, start_clif_exp, finished, tmp_path, store_with_curation, stage, how
):
    undisturbed = finished.summary()
    store = tmp_path / "store"
    if stage == "diffusion":
        store_with_curation("contrastive", "generation_stage1")
    folder = tmp_path / "killed"
    folder.mkdir()
    left = kill_during(stage, start_clif_exp=start_clif_exp, folder=folder, store=store, how=how)
    assert left["status"] == "killed"
    assert left["error"]
    again = clif_exp("debug=fast", store=store)
    assert again.code == 0, again.errors
    assert again.summary()["metrics"] == undisturbed["metrics"]
    assert not again.summary()["stages"][stage]["reused"] or stage == "generation"
    own = [
        folder for folder in store.iterdir() if not folder.is_symlink()
    ]  # other tests may be working in the shared ones
    assert own
    assert not [left for folder in own for left in folder.glob("*.partial")]


def test_a_stage_that_runs_out_of_time_resumes_from_its_checkpoint(
    clif_exp, finished, store_with_curation
):
    undisturbed = finished.summary()
    store = store_with_curation()
    first = clif_exp("debug=fast", "trainer.max_time=0.001", store=store)
    assert first.code == 75
    assert first.summary()["status"] == "killed"
    assert "trainer.max_time" in first.summary()["error"]
    last = clif_exp("debug=fast", store=store)
    assert last.code == 0 and last.summary()["metrics"] == undisturbed["metrics"], last.errors
