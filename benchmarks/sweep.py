"""What a sweep costs beyond its training, and what it saves by sharing.

python benchmarks/sweep.py --out experiments/sweep_cost/results.json

Four measurements, each in a fresh folder:
- overhead: the ablation sweep again in a warm store under another name, so that nothing is trained;
  what a further job adds, in one shared process (at most 2 s) and as a command of its own
- once: how many artifacts two jobs of the ablation sweep both computed (0), with 1 and 2 workers
- saved: the share of the separate runs' cost that the sweep did not pay
- joblib: 2 workers against 1
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from clif_exp.artifacts.provenance import git_commit, hardware

EXPERIMENTS = ("clif", "ablate_gaug", "ablate_raug", "ablate_maug")


def seconds(folder: Path, store: str, *arguments: str) -> float:
    """Run `python -m clif_exp ARGUMENTS` in `folder`; return its seconds of wall time."""
    command = [sys.executable, "-m", "clif_exp", f"artifacts.root={store}", *arguments]
    started = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.monotonic() - started


def jobs(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the summaries of a sweep's jobs."""
    files = folder.glob(f"multirun/{name}/*/summary.json")
    return [json.loads(file.read_text()) for file in files]


def computed(summaries: list[dict[str, Any]], *, store: Path) -> dict[str, Any]:
    """Return what jobs have computed: artifacts, how many of them twice, and their seconds."""
    # A stage that stands for several artifacts has a fingerprint that the store does not know.
    artifacts = {file.parent.name for file in store.glob("*/*/artifact.json")}
    made: list[tuple[str, float]] = []
    for summary in summaries:
        stages = {stage["fingerprint"]: stage for stage in summary["stages"].values()}
        made += [
            (fingerprint, stage["seconds"])
            for fingerprint, stage in stages.items()
            if fingerprint in artifacts and not stage["reused"]
        ]
    counted = Counter(fingerprint for fingerprint, _ in made)
    return {
        "artifacts": len(counted),
        "computed_twice": sum(number > 1 for number in counted.values()),
        "seconds": round(sum(one for _, one in made), 1),
    }


def sweep(folder: Path, name: str, *arguments: str, experiments: tuple[str, ...]) -> float:
    """Run the ablation sweep into `multirun/NAME` with the store of its name's first word."""
    return seconds(
        folder,
        name.partition("_")[0],
        "-m",
        f"+experiment={','.join(experiments)}",
        f"name={name}",
        *arguments,
    )


def measure_once(folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Run the sweep with 1 and 2 workers, each with a store of its own."""
    found = {}
    for workers in (1, 2):
        given = [*overrides, f"hydra.launcher.workers={workers}"]
        wall = sweep(folder, f"workers{workers}", *given, experiments=EXPERIMENTS)
        found[f"workers_{workers}"] = {
            "wall_seconds": round(wall, 1),
            **computed(jobs(folder, f"workers{workers}"), store=folder / f"workers{workers}"),
        }
    return found


def measure_saved(folder: Path, overrides: list[str], *, sweep_seconds: float) -> dict[str, Any]:
    """Run each experiment by a command and with a store of its own, as without a shared store."""
    alone = [
        seconds(folder, f"alone_{experiment}", f"+experiment={experiment}", *overrides)
        for experiment in EXPERIMENTS
    ]
    return {
        "separate_seconds": round(sum(alone), 1),
        "sweep_seconds": round(sweep_seconds, 1),
        "share_saved": round(1 - sweep_seconds / sum(alone), 3),
    }


def measure_overhead(folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Run sweeps of 1 and of 4 jobs that reuse everything: the difference is what 3 jobs cost."""
    walls: dict[int, list[float]] = {1: [], len(EXPERIMENTS): []}
    for repeat in range(3):  # the quickest counts: other load only adds
        for number, found in walls.items():
            name = f"workers1_{number}_{repeat}"
            found.append(sweep(folder, name, *overrides, experiments=EXPERIMENTS[:number]))
            again = computed(jobs(folder, name), store=folder / "workers1")
            assert not again["artifacts"], "the store was not warm"
    one, four = (min(found) for found in walls.values())
    command = seconds(folder, "workers1", f"+experiment={EXPERIMENTS[0]}", *overrides)
    return {
        "first_job_seconds": round(one, 2),
        "per_further_job_seconds": round((four - one) / (len(EXPERIMENTS) - 1), 2),
        "as_a_command_seconds": round(command, 2),
    }


def measure_joblib(folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Run the sweep through joblib with 1 and 2 workers, each with a store of its own."""
    walls = {}
    for workers in (1, 2):
        choice = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={workers}"]
        name = f"joblib{workers}"
        walls[workers] = sweep(folder, name, *overrides, *choice, experiments=EXPERIMENTS)
    return {
        "seconds_1": round(walls[1], 1),
        "seconds_2": round(walls[2], 1),
        "speed_up": round(walls[1] / walls[2], 2),
    }


def main() -> None:
    """Print the measurements, and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file of the results")
    parser.add_argument(
        "overrides", nargs="*", default=["debug=fast", "callbacks=quiet"], help="of the config"
    )
    args = parser.parse_args()
    commit = git_commit(digits=7)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        once = measure_once(folder, args.overrides)
        wall = once["workers_1"]["wall_seconds"]
        result = {
            "command": " ".join(
                ["python -m clif_exp -m", f"+experiment={','.join(EXPERIMENTS)}", *args.overrides]
            ),
            "hardware": hardware(),
            "commit": commit,
            "overhead": measure_overhead(folder, args.overrides),
            "once": once,
            "saved": measure_saved(folder, args.overrides, sweep_seconds=wall),
            "joblib": measure_joblib(folder, args.overrides),
        }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
