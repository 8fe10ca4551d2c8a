"""One job in a process of its own, for the benchmarks that train."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def run(overrides: list[str], *, seed: int, common: list[str], store: Path) -> dict[str, Any]:
    """Run the pipeline once.

    Returns:
        Its metrics, training stages' `seconds/STAGE` where they were not reused, and `told_apart`:
        the share of captions that find their own concept's image after stage 1.
    """
    with tempfile.TemporaryDirectory() as name:
        places = [f"artifacts.root={store}", f"hydra.run.dir={name}"]
        command = [
            sys.executable,
            "-m",
            "clif_exp",
            "generation.guidance=null",  # what training did shows in plain images
            *common,
            *overrides,
            f"seed={seed}",
            "callbacks=quiet",
            *places,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(overrides)}: {done.stderr[-2000:]}")
        summary = json.loads(Path(name, "summary.json").read_text())
    metrics = summary["metrics"]
    for stage, facts in summary["stages"].items():
        if stage in ("contrastive", "diffusion") and not facts["reused"]:
            metrics[f"seconds/{stage}"] = round(facts["seconds"], 1)
    if "contrastive" in summary["stages"]:
        report = json.loads(
            (
                store
                / "contrastive"
                / summary["stages"]["contrastive"]["fingerprint"]
                / "embedding_report.json"
            ).read_text()
        )
        mistaken = report["text_encoder"].get("mistaken")
        metrics |= {} if mistaken is None else {"told_apart": mistaken["after"]["accuracy"]}
    return metrics
