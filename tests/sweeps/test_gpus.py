"""GPUs of a machine are shared out to the jobs of a sweep; no GPU is needed to see that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from clif_exp.sweeps.gpus import claimed_gpus, visible_gpus, wanted_gpus, workers_for
from clif_exp.sweeps.local import run_forked


def use(number: int, folder: Path, *, name: int, seconds: float) -> None:
    """Be a job: hold some of two GPUs for a while, and note which and when."""
    with claimed_gpus(number, folder=folder / "locks", visible=["0", "1"]):
        started = time.monotonic()
        time.sleep(seconds)
        note = f"{started} {time.monotonic()} {os.environ['CUDA_VISIBLE_DEVICES']}"
        (folder / f"{name}.note").write_text(note)


@pytest.mark.parametrize("numbers", [(1, 1, 1), (1, 2, 1), (2, 2)])
def test_no_gpu_serves_two_jobs_at_once(tmp_path, numbers):
    jobs = [
        partial(use, number, tmp_path, name=name, seconds=0.3)
        for name, number in enumerate(numbers)
    ]
    codes = run_forked(
        [(job, tmp_path) for job in jobs],
        workers=3,
        tick=lambda: None,
        ended=lambda _: None,
    )
    assert codes == [0] * len(jobs)
    spans = []
    for name, number in enumerate(numbers):
        began, ended, gpus = (tmp_path / f"{name}.note").read_text().split()
        spans.append((float(began), float(ended), set(gpus.split(","))))
        assert len(spans[-1][2]) == number
    for index, (began, ended, gpus) in enumerate(spans):
        for other_began, other_ended, other_gpus in spans[:index]:
            assert ended <= other_began or other_ended <= began or not gpus & other_gpus


def test_a_killed_jobs_gpus_are_free_again(tmp_path):
    code = (
        "import pathlib, sys, time\n"
        "from clif_exp.sweeps.gpus import claimed_gpus\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with claimed_gpus(2, folder=folder, visible=['0', '1']):\n"
        "    print('has them', flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "has them\n"
        job.send_signal(signal.SIGKILL)
    with claimed_gpus(2, folder=tmp_path, visible=["0", "1"]):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_a_claim_changes_the_environment_for_its_time_only(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,MIG-ab/1/0")
    with claimed_gpus(1, folder=tmp_path, visible=visible_gpus()):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,MIG-ab/1/0"
    with claimed_gpus(3, folder=tmp_path, visible=visible_gpus()):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,MIG-ab/1/0", "the job itself refuses"


def test_workers_follow_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,-1,5")
    assert visible_gpus() == ["0", "1", "2", "3"]
    by_devices = {
        devices: workers_for(OmegaConf.create({"trainer": trainer}))
        for devices in (1, 2, 3, 8)
        for trainer in [{"accelerator": "gpu", "devices": devices}]
    }
    assert by_devices == {1: 4, 2: 2, 3: 1, 8: 1}
    on_cpu = OmegaConf.create({"trainer": {"accelerator": "cpu", "devices": 2}})
    assert (wanted_gpus(on_cpu), workers_for(on_cpu)) == (0, 1)


@pytest.mark.parametrize("devices", ["two", "${nowhere}", None])
def test_a_senseless_number_of_devices_is_left_to_the_job_to_refuse(devices):
    stated = OmegaConf.create({"trainer": {"accelerator": "gpu", "devices": devices}})
    assert wanted_gpus(stated) == 0
