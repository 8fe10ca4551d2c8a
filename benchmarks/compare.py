"""Compares variants over seeds and casts, in one store; writes a table of means.

python benchmarks/compare.py --out experiments/methods --seeds 0 1 --casts 100 101 \
    --against clif clif: "joint_lora: method=joint_lora" "random rows: method=random_rows"

A variant is a name, a colon and its overrides. results.json is written after every run, and a run
that it already holds is not repeated, so a stopped command resumes. With --against every other
variant is compared with that one, run by run of the same cast and seed. Below stands each concept's
attendance in images of several, which M-Aug is for (the paper's Fig. 9):

python benchmarks/compare.py --out experiments/maug --seeds 0 1 2 --against clif \
    "clif: +experiment=clif" "without M-Aug: +experiment=ablate_maug"
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from clif_exp.artifacts.provenance import git_commit, hardware

COLUMNS = {
    "stage1/identity": "stage 1 alone",
    "class_word/identity": "class word",
    "single/identity": "identity",
    "multi/identity": "pairs: identity",
    "multi/attendance": "attendance",
    "multi/leakage": "leakage",
    "multi/confusion": "confusion",
    "multi/intact": "intact",
    "multi/layout_interaction/attendance": "interactions: attendance",
    "multi/layout_interaction/leakage": "interactions: leakage",
    "prior/identity": "prior",
    "told_apart": "told apart",
}

_FEWEST = 6  # runs from which a p-value is shown: with five, the smallest possible one is 0.06


def run(overrides: list[str], *, seed: int, common: list[str], store: Path) -> dict[str, Any]:
    """Run the pipeline once.

    Returns:
        Its metrics, stages' seconds, retrieval accuracy, and `concepts`: name -> attendance and
        confusion in images of several.
    """
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
    if "evaluation" in summary["stages"]:
        metrics["concepts"] = _per_concept(
            store / "evaluation" / summary["stages"]["evaluation"]["fingerprint"]
        )
    return metrics


def _per_concept(evaluation: Path) -> dict[str, dict[str, float]]:
    judged = json.loads((evaluation / "confusion_matrix.json").read_text()).get("multi", {})
    measures = ("attendance", "confusion")
    return {
        name: {measure: judged[measure][name] for measure in measures}
        for name in judged.get("attendance", {})
    }


def table(results: dict[str, Any]) -> str:
    """Means over the runs as a Markdown table, with their range."""
    shown = {
        metric: title
        for metric, title in COLUMNS.items()
        if any(
            run.get(metric) is not None
            for runs in results["runs"].values()
            for run in runs.values()
        )
    }
    lines = [f"| | runs | {' | '.join(shown.values())} |", "| --- " * (2 + len(shown)) + "|"]
    for name, runs in results["runs"].items():
        cells = []
        for metric in shown:
            values = [found[metric] for found in runs.values() if found.get(metric) is not None]
            spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.2f}{spread}" if values else "")
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    if results.get("against"):
        lines += ["", *_differences(results["runs"], against=results["against"], shown=shown)]
    lines += _attendance(results["runs"])
    return "\n".join(lines)


def _attendance(runs: dict[str, dict[str, Any]]) -> list[str]:
    """Each concept's attendance by variant, the mean over its runs; nothing where none is known."""
    found: dict[str, dict[str, list[float]]] = {}
    for variant, of_variant in runs.items():
        for key, metrics in of_variant.items():
            # Casts have the same names.
            cast = key.split(", ")[0] + ": " if key.startswith("cast ") else ""
            for name, measured in metrics.get("concepts", {}).items():
                by_variant = found.setdefault(f"{cast}{name}", {})
                by_variant.setdefault(variant, []).append(measured["attendance"])
    if not found:
        return []
    lines = ["", f"| attendance in images of several | {' | '.join(runs)} |"]
    lines += ["| --- " * (1 + len(runs)) + "|"]
    for name, of in found.items():
        cells = [f"{fmean(of[variant]):.2f}" if variant in of else "" for variant in runs]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _differences(
    runs: dict[str, dict[str, Any]], *, against: str, shown: dict[str, str]
) -> list[str]:
    """Mean difference to a variant over the runs that both have, with Wilcoxon's signed-rank p."""
    from scipy.stats import wilcoxon

    lines = [
        f"| difference to {against} | runs | {' | '.join(shown.values())} |",
        "| --- " * (2 + len(shown)) + "|",
    ]
    for name in runs:
        common = [key for key in runs[name] if name != against and key in runs.get(against, {})]
        cells = []
        for metric in shown:
            pairs = [
                (runs[name][key].get(metric), runs[against][key].get(metric)) for key in common
            ]
            found = [a - b for a, b in pairs if a is not None and b is not None]
            p = f" (p {wilcoxon(found).pvalue:.3f})" if len(found) >= _FEWEST and any(found) else ""
            cells.append(f"{fmean(found):+.2f}{p}" if found else "")
        if common:
            lines.append(f"| {name} | {len(common)} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Make the missing runs, and write results.json and table.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variants", nargs="+", help="name: overrides")
    parser.add_argument("--common", default="", help="overrides of all variants")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--casts", type=int, nargs="+", help="dataset.cast_seed; default: none set")
    parser.add_argument("--against", help="variant with which the others are compared")
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
        "against": args.against,
    }
    file = args.out / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"runs": {}}
    results |= facts
    args.out.mkdir(parents=True, exist_ok=True)
    store = (args.store or Path("artifacts")).absolute()
    for seed, cast in product(args.seeds, args.casts or [None]):
        key = str(seed) if cast is None else f"cast {cast}, seed {seed}"
        common = facts["common"] + ([] if cast is None else [f"dataset.cast_seed={cast}"])
        for name, overrides in variants.items():
            runs = results["runs"].setdefault(name, {})
            if key in runs:
                continue
            metrics = run(overrides, seed=seed, common=common, store=store)
            # Of this run: the table may be finished by a later commit.
            runs[key] = metrics | {"commit": facts["commit"]}
            file.write_text(json.dumps(results, indent=1) + "\n")
            (args.out / "table.md").write_text(table(results) + "\n")
            print(
                f"{name}, {key}: { {metric: runs[key].get(metric) for metric in COLUMNS} }",
                flush=True,
            )
    print(table(results))


if __name__ == "__main__":
    main()
