"""Time to quality: identity and confusion after 100, 200, 400 and 800 steps of stage 2, in seconds.

python benchmarks/quality.py --out experiments/quality --seeds 0 1 2 \
    "before: diffusion.prior_share=0" "after:"

A variant is a name, a colon and its overrides. Each number of steps is a run of
its own, with its own learning rate schedule. A run that results.json already holds is not
repeated. Run it on an otherwise idle machine: the seconds are wall time.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from _runs import run

from clif_exp.artifacts.provenance import git_commit, hardware

COLUMNS = {
    "seconds/diffusion": "stage 2 (s)",
    "single/identity": "identity",
    "multi/identity": "pairs: identity",
    "multi/confusion": "confusion",
    "prior/identity": "prior",
}


def main() -> None:
    """Make the missing runs, and write results.json and table.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variants", nargs="+", help="name: overrides")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 200, 400, 800])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--common", default="", help="overrides of all variants")
    parser.add_argument("--out", type=Path, required=True, help="for results.json and table.md")
    parser.add_argument("--store", type=Path, default=Path("artifacts"), help="to share")
    args = parser.parse_args()
    file = args.out / "results.json"
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"runs": {}}
    results |= {"hardware": hardware(), "commit": git_commit(digits=7), "common": args.common}
    variants = dict(variant.split(":", 1) for variant in args.variants)
    for seed in args.seeds:
        for name, overrides in variants.items():
            for steps in args.steps:
                found = results["runs"].setdefault(name, {}).setdefault(str(steps), {})
                if str(seed) in found:
                    continue
                metrics = run(
                    [*overrides.split(), f"diffusion.steps={steps}"],
                    seed=seed,
                    common=args.common.split(),
                    store=args.store.absolute(),
                )
                found[str(seed)] = {key: metrics.get(key) for key in COLUMNS}
                print(name, steps, seed, found[str(seed)], flush=True)
                file.write_text(json.dumps(results, indent=1) + "\n")
                (args.out / "table.md").write_text(table(results["runs"]) + "\n")
    print(table(results["runs"]))


def table(runs: dict[str, Any]) -> str:
    """Means over the seeds as a Markdown table."""
    lines = [f"| | steps | {' | '.join(COLUMNS.values())} |", "| --- " * (2 + len(COLUMNS)) + "|"]
    for name, by_steps in runs.items():
        for steps, seeds in by_steps.items():
            cells = []
            for metric in COLUMNS:
                values = [one[metric] for one in seeds.values() if one[metric] is not None]
                shown = f"{fmean(values):.0f}" if "seconds" in metric and values else None
                cells.append(shown or (f"{fmean(values):.2f}" if values else ""))
            lines.append(f"| {name} | {steps} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
