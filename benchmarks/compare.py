"""Compares variants at the default budget over seeds, in one store; writes a table of means.

python benchmarks/compare.py --out experiments/methods \
    clif: "joint_lora: method=joint_lora" "random rows: method=random_rows" --seeds 0 1

A variant is a name, a colon and its overrides. results.json is written after every run, and a run
that it already holds is not repeated, so a stopped command resumes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from clif_exp.artifacts.provenance import git_commit, hardware

COLUMNS = {
    "single/identity": "identity",
    "multi/identity": "pairs: identity",
    "multi/attendance": "attendance",
    "multi/leakage": "leakage",
    "multi/confusion": "confusion",
    "prior/identity": "prior",
    "told_apart": "told apart",
}


def run(overrides: list[str], *, seed: int, common: list[str], store: Path) -> dict[str, Any]:
    """Run the pipeline once; returns its metrics, and stage 1's retrieval accuracy."""
    with tempfile.TemporaryDirectory() as name:
        places = [f"artifacts.root={store}", f"hydra.run.dir={name}"]
        command = [
            sys.executable,
            "-m",
            "clif_exp",
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


def table(results: dict[str, Any]) -> str:
    """Means over the seeds as a Markdown table, with their range."""
    lines = [f"| | seeds | {' | '.join(COLUMNS.values())} |", "| --- " * (2 + len(COLUMNS)) + "|"]
    for name, seeds in results["runs"].items():
        cells = []
        for metric in COLUMNS:
            values = [found[metric] for found in seeds.values() if found.get(metric) is not None]
            spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.2f}{spread}" if values else "")
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Make the missing runs, and write results.json and table.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variants", nargs="+", help="name: overrides")
    parser.add_argument("--common", default="", help="overrides of all variants")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for results.json and table.md"
    )
    parser.add_argument(
        "--store", type=Path, help="artifacts to share; default: those of `python -m clif_exp` here"
    )
    args = parser.parse_args()
    variants = {
        name.strip(): overrides.split()
        for name, _, overrides in (variant.partition(":") for variant in args.variants)
    }
    facts = {
        "hardware": hardware(),
        "commit": git_commit(digits=7),
        "common": args.common.split(),
        "variants": variants,
    }
    file = args.out / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"runs": {}}
    results |= facts
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for name, overrides in variants.items():
            seeds = results["runs"].setdefault(name, {})
            if str(seed) in seeds:
                continue
            metrics = run(
                overrides,
                seed=seed,
                common=facts["common"],
                store=(args.store or Path("artifacts")).absolute(),
            )
            seeds[str(seed)] = metrics | {
                "commit": facts["commit"]
            }  # of this run: the table may be finished by a later one
            file.write_text(json.dumps(results, indent=1) + "\n")
            (args.out / "table.md").write_text(table(results) + "\n")
            print(
                f"{name}, seed {seed}:"
                f" { {metric: seeds[str(seed)].get(metric) for metric in COLUMNS} }",
                flush=True,
            )
    print(table(results))


if __name__ == "__main__":
    main()
