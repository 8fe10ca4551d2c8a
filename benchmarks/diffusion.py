"""Stage 2 against a loop like diffusers' train_text_to_image_lora.py, on ToonWorld and the CPU.

    python benchmarks/diffusion.py --out experiments/diffusion_speed

Bars: at least 1.3 times as fast, at most 0.8 of the memory, the same losses, no cost that grows
faster than linearly, and at most 15 s of processor time from the command to the first training step
on cached artifacts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _diffusion_loops import write_data

from clif_exp.artifacts.provenance import git_commit, hardware

LOOPS = Path(__file__).with_name("_diffusion_loops.py")


def run(
    loop: str,
    *,
    concepts: int = 4,
    batch_size: int = 16,
    steps: int = 10,
    precision: str = "auto",
    threads: int = 1,
    **more: int,
) -> dict[str, Any]:
    """Run one loop in its own process; `step` is the median of its steps' processor seconds."""
    with tempfile.TemporaryDirectory() as root:
        write_data(Path(root), concepts=concepts)
        settings = {
            "root": root,
            "concepts": concepts,
            "batch_size": batch_size,
            "steps": steps,
            "precision": precision,
            **more,
        }
        command = [sys.executable, str(LOOPS), loop, json.dumps(settings | {"threads": threads})]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return result | {"step": statistics.median(result["seconds"][1:])}


def comparison(threads: int) -> dict[str, Any]:
    """Compare our stage and the stock loop at the same batch and precision, and in fp32."""
    ours, stock = (run(loop, threads=threads) for loop in ("ours", "stock"))
    exact = [
        run(loop, batch_size=4, steps=4, precision="32-true", threads=threads)["losses"]
        for loop in ("ours", "stock")
    ]
    memory = [side["peak_memory_mb"] for side in (ours, stock)]
    own = [side["peak_memory_mb"] - side["libraries_mb"] for side in (ours, stock)]
    return {
        "seconds_per_step": {"ours": round(ours["step"], 4), "stock": round(stock["step"], 4)},
        "times_faster": round(stock["step"] / ours["step"], 3),
        "peak_memory_mb": {
            "ours": round(memory[0]),
            "stock": round(memory[1]),
            "libraries": round(ours["libraries_mb"]),
        },
        "memory_ratio": round(memory[0] / memory[1], 3),
        "memory_ratio_without_libraries": round(own[0] / own[1], 3),
        "largest_loss_difference": {
            "autocast": _difference(ours["losses"], stock["losses"]),
            "fp32": _difference(*exact),
        },
    }


def _difference(ours: list[float], stock: list[float]) -> float:
    return max(abs(a - b) / b for a, b in zip(ours, stock, strict=True))


def scaling(threads: int) -> dict[str, Any]:
    """Measure seconds per step, and before the first, by batch, ranks and concepts.

    Ranks take 8 images each.
    """
    batches = {
        size: run("ours", batch_size=size, steps=8, threads=threads)["step"]
        for size in (4, 8, 16, 32)
    }
    concepts = {
        count: run("ours", concepts=count, batch_size=8, steps=8, threads=threads)
        for count in (2, 18, 100)
    }
    ranks = {
        count: run("ours", batch_size=8 * count, steps=8, threads=threads, ranks=count)["step"]
        for count in (1, 2)
    }
    return {
        "step_by_ranks": {count: round(seconds, 4) for count, seconds in ranks.items()},
        "step_by_batch_size": {size: round(seconds, 4) for size, seconds in batches.items()},
        "step_by_concepts": {count: round(result["step"], 4) for count, result in concepts.items()},
        "before_first_step_by_concepts": {
            count: round(result["before_first_step"], 2) for count, result in concepts.items()
        },
    }


def first_step(threads: int) -> dict[str, float]:
    """Time the command, on cached curation and stage 1, to the first step of stage 2."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "clif_exp",
            "debug=fast",
            f"artifacts.root={folder}/artifacts",
            f"hydra.run.dir={folder}/run",
        ]
        subprocess.run(
            [*command, "stages=[curation,contrastive]"],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )
        # Stage 2 as the default has it, its grid of step 0 included; before it the fast ones.
        full = [
            "diffusion.steps=800",
            "diffusion.batch_size=16",
            "diffusion.rank=16",
            "diffusion.samples.num_inference_steps=20",
        ]
        started = time.monotonic()
        process = subprocess.Popen(
            [*command, *full, "stages=[curation,contrastive,diffusion]"],
            cwd=folder,
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while process.poll() is None and not _has_step(Path(folder)):
                time.sleep(0.02)
            wall, ticks = time.monotonic() - started, _ticks(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return {"wall": round(wall, 1), "processor": round(ticks / os.sysconf("SC_CLK_TCK"), 1)}


def _has_step(folder: Path) -> bool:
    files = folder.glob("artifacts/diffusion/*.partial/metrics.csv")
    return any(
        line and line.split(",")[0] not in ("step", "0")
        for file in files
        for line in file.read_text().splitlines()
    )


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def main() -> None:
    """Print each measurement, and write what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for results.json; measurements that were left out stay as they are there",
    )
    parser.add_argument(
        "--only",
        choices=["comparison", "scaling", "first_step"],
        nargs="*",
        help="measure these alone",
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    args = parser.parse_args()
    file = args.out / "results.json" if args.out else None
    result = json.loads(file.read_text()) if file and file.is_file() else {}
    facts = {
        "hardware": hardware(),
        "threads": args.threads,
        "commit": git_commit(digits=7),
        "load": round(os.getloadavg()[0], 1),
    }
    for name, measure in (
        ("comparison", comparison),
        ("scaling", scaling),
        ("first_step", first_step),
    ):
        if not args.only or name in args.only:
            result[name] = measure(args.threads) | facts
            print(name, json.dumps(result[name], indent=2), flush=True)
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                partial = file.with_suffix(".partial")
                partial.write_text(json.dumps(result, indent=2) + "\n")
                shutil.move(partial, file)


if __name__ == "__main__":
    main()
