"""Runs over two ranks: one result, made by both, and neither rank survives the other."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from warm_start import RunningCommand

RUN = ("debug=fast", "trainer=ddp_sim")


def content(store: Path, name: str, fingerprint: str) -> dict[str, str]:
    folder = store / name / fingerprint
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "artifact.json"]
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def test_two_ranks_share_every_stage_and_give_one_run(clif_exp, finished, tmp_path, shared_store):
    alone = finished.summary()
    both = clif_exp(*RUN, "generation.batch_size=1", store=tmp_path / "store")
    assert both.code == 0, both.errors[-2000:]
    summary = both.summary()
    assert summary["status"] == "finished"
    assert summary["metrics"].keys() == alone["metrics"].keys()
    for name in ("segments", "contexts", "augment_G", "augment_R", "augment_M"):
        own = summary["stages"][name]["fingerprint"]
        assert own == alone["stages"][name]["fingerprint"], name
        assert content(tmp_path / "store", name, own) == content(shared_store, name, own), name
    helper = both.folders[-1] / ".rank_1"
    assert json.loads((helper / "summary.json").read_text())["status"] == "finished"
    assert "generation:" in (helper / "output.log").read_text(), "rank 1 has sampled too"
    assert both.output.count("Diffusion stage:") == 1, "rank 1 prints into its own file"
    assert not list((tmp_path / "store").glob("*/*.partial"))


@contextlib.contextmanager
def running(start_clif_exp, folder: Path, store: Path) -> Iterator[tuple[RunningCommand, int]]:
    """Start a run over two ranks; yields rank 0 and rank 1's process id once stage 2 has begun."""
    started, deadline = time.time(), time.monotonic() + 300
    command = start_clif_exp(*RUN, "diffusion.steps=400", folder=folder, store=store)
    while not [
        file
        for file in store.glob("diffusion/*.partial/metrics.csv")
        if file.stat().st_mtime > started
    ]:
        assert command.is_alive() and time.monotonic() < deadline, command.said()
        time.sleep(0.05)
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    (helper,) = [
        int(child) for child in children if "clif_exp" in Path(f"/proc/{child}/cmdline").read_text()
    ]
    try:
        yield command, helper
    finally:
        if command.is_alive():
            command.kill()
            command.wait(60)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds rank 1 through /proc")
def test_no_rank_outlives_the_other(start_clif_exp, tmp_path, store_with_curation):
    store = store_with_curation("contrastive")
    folder = tmp_path / "two_ranks"
    folder.mkdir()
    with running(start_clif_exp, folder, store) as (command, helper):
        os.kill(helper, signal.SIGKILL)
        ended = command.wait(90)
    assert ended.returncode == 1
    assert "clif_exp: error: rank 1 was killed by signal 9" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    (file,) = folder.glob("runs/*/*/summary.json")
    assert json.loads(file.read_text())["status"] == "failed"

    # The second run resumes from the last checkpoint.
    with running(start_clif_exp, folder, store) as (command, helper):
        command.kill()
        command.wait(60)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{helper}").exists():
            assert time.monotonic() < deadline, "rank 1 runs on without rank 0"
            time.sleep(0.2)
