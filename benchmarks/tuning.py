"""Runs the tuning trials of methods, and says which one is best.

python benchmarks/tuning.py                             # all of experiments/tuning/trials.yaml
python benchmarks/tuning.py dreambooth custom_diffusion --store artifacts

A method's results.json is written after every run, and a trial that it already holds is not
repeated, so a stopped command resumes; several may run side by side on different methods. The best
trial has the most intact images of pairs (`multi/intact`), and of these the highest identity.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from _runs import run

from clif_exp.artifacts.provenance import git_commit, hardware

HERE = Path(__file__).parents[1] / "experiments" / "tuning"
CRITERIA = ("multi/intact", "multi/identity")
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


def best(runs: dict[str, Any]) -> str:
    """Return the name of the best trial."""
    return max(runs, key=lambda name: tuple(next(iter(runs[name].values()))[c] for c in CRITERIA))


def summary(methods: list[str]) -> str:
    """Every method's best trial as a Markdown table, and what the other trials span."""
    shown = {"multi/intact": "intact", "multi/identity": "pairs: identity", **COLUMNS}
    shown = {metric: title for metric, title in shown.items() if "told" not in metric}
    lines = [
        f"| method | trials | best | {' | '.join(shown.values())} |",
        "| --- " * (3 + len(shown)) + "|",
    ]
    for method in methods:
        file = HERE / method / "results.json"
        if not file.is_file():
            continue
        runs = json.loads(file.read_text())["runs"]
        chosen = best(runs)
        cells = []
        for metric in shown:
            found = {name: next(iter(trial.values())).get(metric) for name, trial in runs.items()}
            known = [value for value in found.values() if value is not None]
            if found[chosen] is None:
                cells.append("")
            else:
                cells.append(f"{found[chosen]:.2f} ({min(known):.2f} to {max(known):.2f})")
        lines.append(f"| {method} | {len(runs)} | {chosen} | {' | '.join(cells)} |")
    return "\n".join(lines)


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
    return "\n".join(lines)


def tune(method: str, plan: dict[str, Any], *, store: Path) -> None:
    """Make a method's missing trials."""
    out = HERE / method
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"runs": {}}
    stated = plan["methods"][method]
    cast = f"dataset.cast_seed={plan['cast']}"
    common = [cast, *plan["common"].split(), f"method={method}", *plan[stated["regime"]].split()]
    commit = git_commit(digits=7)
    results |= {"hardware": hardware(), "common": common, "trials": stated["trials"]}
    for name, overrides in stated["trials"].items():
        runs = results["runs"].setdefault(name, {})
        if runs:
            continue
        found = run(overrides.split(), seed=plan["seed"], common=common, store=store)
        kept = {key: value for key, value in found.items() if key in COLUMNS or "seconds" in key}
        runs[f"cast {plan['cast']}, seed {plan['seed']}"] = kept | {"commit": commit}
        file.write_text(json.dumps(results, indent=1) + "\n")
        (out / "table.md").write_text(table(results) + "\n")
        print(f"{method}, {name}: { {key: round(kept[key], 3) for key in CRITERIA} }", flush=True)


def main() -> None:
    """Make the missing trials, and write the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    plan = yaml.safe_load((HERE / "trials.yaml").read_text())
    parser.add_argument("methods", nargs="*", help="default: all", metavar="METHOD")
    parser.add_argument("--store", type=Path, default=Path("artifacts"), help="artifacts to share")
    args = parser.parse_args()
    if unknown := set(args.methods) - set(plan["methods"]):
        parser.error(f"no trials of {sorted(unknown)}; there are {', '.join(plan['methods'])}")
    for method in args.methods or plan["methods"]:
        tune(method, plan, store=args.store.absolute())
    lines = summary(list(plan["methods"]))
    (HERE / "table.md").write_text(lines + "\n")
    print(lines)


if __name__ == "__main__":
    main()
