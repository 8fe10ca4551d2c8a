"""What each method costs: seconds and peak memory for the same concepts, merging, guidance.

python benchmarks/methods.py --out experiments/methods_cost
python benchmarks/methods.py --methods clif mix_of_show --concepts 2 6

Every method runs by the command that a user types, on ToonWorld's default cast, with a few steps of
its own batch only: seconds per step are the difference of two runs that differ in steps, so that
loading and encoding do not count. Methods that customise concepts apart train one after another;
merging is timed by itself. Guidance takes turns with stock sampling on one batch in one process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, get_args

from clif_exp.artifacts.provenance import git_commit, hardware
from clif_exp.generation.settings import Guidance
from clif_exp.runs.composing import compose

METHODS = [
    *("clif", "mix_only", "joint_lora", "textual_inversion", "dreambooth", "custom_diffusion"),
    *("custom_diffusion_merged", "mix_of_show", "orthogonal"),
]
SHORT, LONG = 4, 24  # steps
QUICK = ["diffusion.samples=null", "diffusion.validation=null", "callbacks=quiet"]
QUICK += ["contrastive.steps=2", "diffusion.warmup_steps=0", "diffusion.prior.images=16"]
GUIDANCE = get_args(Guidance)


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    """Run a command in a folder that shares a store with the others; return its summary."""
    place = folder / "run"
    command = [sys.executable, "-m", "clif_exp", *overrides, *QUICK]
    command += [f"hydra.run.dir={place}", f"artifacts.root={folder / 'artifacts'}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(overrides)}: {done.stderr[-2000:]}")
    summary: dict[str, Any] = json.loads((place / "summary.json").read_text())
    return summary


def of_method(folder: Path, method: str, *, concepts: int) -> dict[str, float]:
    """Measure a method's stage 2.

    Returns:
        Seconds to load and encode, per step, and of them all with the method's own steps (`train`,
        reckoned from the two); of merging; and peak memory in MB.
    """
    stages = "stages=[curation,contrastive,diffusion]"
    chosen = [stages, f"method={method}", f"dataset.size={concepts}"]
    seconds, memory = {}, 0.0
    merging = None
    for steps in (SHORT, LONG):
        found = run(folder, *chosen, f"diffusion.steps={steps}")["stages"]
        parts = {name: facts for name, facts in found.items() if name.startswith("diffusion/")}
        trained = parts or {"diffusion": found["diffusion"]}
        assert not any(facts["reused"] for facts in trained.values())
        seconds[steps] = sum(facts["seconds"] for facts in trained.values())
        memory = max(facts["peak_memory_mb"] for facts in trained.values())
        merging = found["diffusion"]["seconds"] if parts else None
    per_step = (seconds[LONG] - seconds[SHORT]) / (LONG - SHORT)
    start = seconds[SHORT] - SHORT * per_step
    # of apart methods `per_step` is one step of every concept
    measured = {"start": start, "per_step": per_step, "peak_memory_mb": memory}
    measured["train"] = start + per_step * compose(f"method={method}").diffusion.steps
    return measured | ({"merging": merging} if merging is not None else {})


def of_guidance(folder: Path, *, images: int = 4, repeats: int = 3) -> dict[str, float]:
    """Return seconds per image of stock sampling and under each guidance, medians over turns."""
    import torch

    from clif_exp.base_models.customised import load_customised_pipeline
    from clif_exp.base_models.spec import BaseModels, resolve
    from clif_exp.generation.guidance.applying import Guided
    from clif_exp.generation.sampling import sample

    torch.set_num_threads(1)
    found = run(folder, "stages=[curation,diffusion]", "method=mix_only", "diffusion.steps=2")
    trained = folder / "artifacts" / "diffusion" / found["stages"]["diffusion"]["fingerprint"]
    config = compose()
    spec = resolve(BaseModels(**config.model.model_dump()))
    pipeline, num_tokens = load_customised_pipeline(spec, diffusion=trained, device="cpu")
    names = list(num_tokens)[:2]
    prompts = [f"a photo of <{names[0]}> on the left and <{names[1]}> on the right"] * images
    seconds: dict[str, list[float]] = {name: [] for name in ("stock", *GUIDANCE)}
    for _ in range(repeats):
        for name, taken in seconds.items():
            chosen = None if name == "stock" else name
            settings = config.generation.model_copy(update={"guidance": chosen})
            started = time.perf_counter()
            sample(
                pipeline,
                prompts,
                noise_seeds=list(range(images)),
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=settings.guidance_scale,
                mixed_precision=settings.mixed_precision,
                guided=Guided(
                    settings, num_tokens, concepts=[tuple(names)] * images, contexts=[None] * images
                )
                if chosen
                else None,
            )
            taken.append((time.perf_counter() - started) / images)
    return {name: median(taken) for name, taken in seconds.items()}


def table(results: dict[str, Any]) -> str:
    """Costs as Markdown: a row per method and number of concepts, then guidance."""
    lines = ["| method | concepts | s per step | s to start | s in all | s to merge | peak MB |"]
    lines.append("| --- " * 7 + "|")
    for method, by_count in results["methods"].items():
        for count, cost in by_count.items():
            merging = f"{cost['merging']:.1f}" if "merging" in cost else ""
            lines.append(
                f"| {method} | {count} | {cost['per_step']:.2f} | {cost['start']:.1f} |"
                f" {cost['train']:.0f} | {merging} | {cost['peak_memory_mb']:.0f} |"
            )
    if guidance := results.get("guidance"):
        lines += ["", "| sampling | s per image | times stock |", "| --- | --- | --- |"]
        for name, taken in guidance.items():
            lines.append(f"| {name} | {taken:.2f} | {taken / guidance['stock']:.1f} |")
    return "\n".join(lines)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make all runs; curation and prior images are shared, and not counted."""
    results: dict[str, Any] = {"hardware": hardware(), "commit": git_commit(digits=7)}
    results |= {"steps": [SHORT, LONG], "methods": {}}
    for method in args.methods:
        for count in args.concepts:
            cost = of_method(folder, method, concepts=count)
            rounded = {name: round(value, 3) for name, value in cost.items()}
            results["methods"].setdefault(method, {})[str(count)] = rounded
            print(f"{method}, {count} concepts: {rounded}", flush=True)
    if args.guidance:
        results["guidance"] = {k: round(v, 3) for k, v in of_guidance(folder).items()}
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--concepts", type=int, nargs="+", default=[2, 6, 18])
    parser.add_argument("--guidance", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, help="folder for results.json and table.md")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        results = measure(args, Path(name))
    print(table(results))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (args.out / "table.md").write_text(table(results) + "\n")


if __name__ == "__main__":
    main()
