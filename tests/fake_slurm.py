"""Stands for Slurm's programs on this machine: `sbatch`, `srun` and `sacct`, as submitit uses them.

It starts every job of an array at once, and a job's tasks as processes with Slurm's environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

_ID = 7  # of every submission


def install(folder: Path) -> Path:
    """Write the three programs; return the folder for PATH."""
    folder.mkdir()
    for name in ("sbatch", "srun", "sacct"):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        program.chmod(0o755)
    return folder


def sbatch(file: str) -> None:
    """Start a job, or the jobs of an array, and say its id."""
    asked = dict(re.findall(r"#SBATCH --([\w-]+)=(\S+)", Path(file).read_text()))
    tasks = str(int(asked["nodes"]) * int(asked["ntasks-per-node"]))
    jobs = [{"SLURM_JOB_ID": str(_ID)}]
    if "array" in asked:
        last = int(asked["array"].partition("%")[0].partition("-")[2])
        jobs = [
            {
                "SLURM_JOB_ID": str(_ID + 1 + index),
                "SLURM_ARRAY_JOB_ID": str(_ID),
                "SLURM_ARRAY_TASK_ID": str(index),
            }
            for index in range(last + 1)
        ]
    for job in jobs:
        own = job | {
            "SLURM_JOB_NAME": asked["job-name"],
            "SLURM_JOB_NODELIST": "localhost",
            "SLURM_NODELIST": "localhost",
            "SLURM_JOB_NUM_NODES": asked["nodes"],
            "SLURM_NNODES": asked["nodes"],
            "SLURM_NTASKS": tasks,
            "SLURM_NTASKS_PER_NODE": asked["ntasks-per-node"],
        }
        subprocess.Popen(
            ["bash", file],
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    print(f"Submitted batch job {_ID}")


def srun(*arguments: str) -> int:
    """Run a command as the job's tasks, each with an output of its own."""
    output, command = arguments[arguments.index("--output") + 1], list(arguments)
    command = command[command.index(sys.executable) :]
    place = {"%j": str(_ID), "%A": str(_ID), "%a": os.environ.get("SLURM_ARRAY_TASK_ID", "0")}
    processes = []
    for task in range(int(os.environ["SLURM_NTASKS"])):
        file = output
        for sign, value in {**place, "%t": str(task)}.items():
            file = file.replace(sign, value)
        own = {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_NODEID": "0"}
        with open(file, "w") as log:
            processes.append(
                subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
            )
    return max(process.wait() for process in processes)


def sacct(*_arguments: str) -> None:
    """Say that all jobs run; submitit sees the end of one by its result."""
    jobs = [str(_ID), *(f"{_ID}_{index}" for index in range(64))]
    print("\n".join(["JobID|State|NodeList", *(f"{job}|RUNNING|localhost" for job in jobs)]))


if __name__ == "__main__":
    sys.exit({"sbatch": sbatch, "srun": srun, "sacct": sacct}[sys.argv[1]](*sys.argv[2:]))
