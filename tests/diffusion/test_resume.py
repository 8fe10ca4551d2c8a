"""SIGKILL at any step, then the same command: the same files, bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def _child(stage: str, out: Path, backbone: dict, data: Path) -> None:
    sys.path.insert(0, str(TESTS))
    from kill_training import run

    with (out.parent / f"{out.name}.log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    run(stage, out, backbone=backbone, data=data)


def _start(*arguments) -> multiprocessing.Process:
    # fork: the libraries' imports would cost more than the training. Safe while torch has no
    # threads of its own yet.
    process = multiprocessing.get_context("fork").Process(target=_child, args=arguments)
    process.start()
    return process


def _rows(file: Path) -> int:
    return max(0, len(file.read_text().splitlines()) - 1) if file.is_file() else 0


@pytest.mark.parametrize("stage", ["contrastive", "diffusion", "mix_of_show", "custom_diffusion"])
def test_a_killed_stage_ends_with_the_same_files(stage, tmp_path, tiny_models):
    backbone = tiny_models.write_tiny_backbone(tmp_path / "backbone", family="sd15")
    tiny_models.write_concepts_and_manifests(tmp_path / "data")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    process = _start(stage, undisturbed, backbone, tmp_path / "data")
    process.join()
    assert process.exitcode == 0, (tmp_path / "undisturbed.log").read_text()[-2000:]
    for step in (3, 14, 27):
        process = _start(stage, killed, backbone, tmp_path / "data")
        while process.is_alive() and _rows(killed / "metrics.csv") < step:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "killed.log").read_text()[-2000:]
    process = _start(stage, killed, backbone, tmp_path / "data")
    process.join()
    assert process.exitcode == 0, (tmp_path / "killed.log").read_text()[-2000:]
    files = [file.relative_to(undisturbed) for file in undisturbed.rglob("*") if file.is_file()]
    assert sorted(files) == sorted(
        file.relative_to(killed) for file in killed.rglob("*") if file.is_file()
    )
    for file in files:
        assert (undisturbed / file).read_bytes() == (killed / file).read_bytes(), file


def test_checkpoints_of_another_run_are_refused(tmp_path, backbones, curated):
    from clif_exp.contrastive.stage import train_contrastive
    from clif_exp.errors import TimeBudgetExhausted
    from support import settings

    arguments = {
        "spec": backbones("sd15"),
        "concepts": curated["concepts"],
        "manifests": {"G": curated["manifests"]["G"]},
        "features": None,
        "seed": 0,
        "trainer": settings("trainer", precision="32-true", max_time=1e-6),
    }
    five, six = (settings("contrastive", basis=None, steps=steps, batch_size=4) for steps in (5, 6))
    with pytest.raises(TimeBudgetExhausted, match="at step 1 of 5"):
        train_contrastive(tmp_path, settings=five, **arguments)
    assert list((tmp_path / "checkpoints").glob("*.ckpt")), (
        "a checkpoint is saved before time runs out"
    )
    with pytest.raises(ValueError, match="another run"):
        train_contrastive(tmp_path, settings=six, **arguments)
    for step in (2, 3, 4):
        with pytest.raises(TimeBudgetExhausted, match=f"at step {step} of 5"):
            train_contrastive(tmp_path, settings=five, **arguments)
    train_contrastive(tmp_path, settings=five, **arguments)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 6
