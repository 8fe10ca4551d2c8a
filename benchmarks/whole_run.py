"""Cost of the default run: at most 10 minutes the first time, at most 30 seconds the second time.

python benchmarks/whole_run.py --out experiments/default
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from clif_exp.artifacts.provenance import git_commit, hardware


def run(folder: Path, overrides: list[str]) -> tuple[float, dict[str, Any]]:
    """Run the default command in `folder`; returns its seconds of wall time and its summary."""
    command = [
        sys.executable,
        "-m",
        "clif_exp",
        f"hydra.run.dir={folder / 'run'}",
        f"artifacts.root={folder / 'artifacts'}",
        *overrides,
    ]
    started = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.monotonic() - started, json.loads((folder / "run" / "summary.json").read_text())


def main() -> None:
    """Print both times, and each stage's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for results.json and the grids of images")
    parser.add_argument("overrides", nargs="*", help="of the config, such as dataset.size=18")
    args = parser.parse_args()
    commit = git_commit(digits=7)  # before this run's own images change the checkout
    with tempfile.TemporaryDirectory() as name:
        first, summary = run(Path(name), args.overrides)
        second, again = run(Path(name), args.overrides)
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            for grid in ("concepts", "pairs", "redrawn", "augmented"):
                shutil.copy(
                    Path(name) / "run" / "samples" / f"{grid}.png", args.out / f"{grid}.png"
                )
    reused = all(stage["reused"] for stage in again["stages"].values())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    result = {
        "command": " ".join(["python -m clif_exp", *args.overrides]),
        "hardware": hardware(),
        "commit": commit,
        "first_seconds": round(first, 1),
        "second_seconds": round(second, 1),
        "everything_reused": reused,
        "peak_memory_mb": round(peak),
        "stages": {stage: round(facts["seconds"], 1) for stage, facts in summary["stages"].items()},
        "metrics": summary["metrics"],
    }
    print(
        f"first run {first:.0f} s (at most 600), second run {second:.1f} s (at most 30), peak"
        f" memory {peak:.0f} MB, {result['hardware']}"
    )
    for stage, seconds in result["stages"].items():
        print(f"  {stage:18s} {seconds:8.1f} s")
    if args.out:
        (args.out / "results.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
