"""Measure the shipped base models: `python -m clif_exp.toonworld.evaluate --out model_card.json`, minutes on 2 CPU cores.

Prints one row per measure beside the bar it should reach, and writes JSON with hardware and commit, and grids of samples.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
import time
from pathlib import Path

# measure -> (bar, higher is better)
BARS = {
    "oracle/clean/species": 0.99, "oracle/clean/attributes": 0.98, "oracle/clean/figures": 0.99,
    "oracle/after_vae/species": 0.99, "oracle/after_vae/attributes": 0.98, "oracle/after_vae/figures": 0.99,
    "oracle/blurred/attributes": 0.98, "oracle/noisy/attributes": 0.98,
    "oracle/doubts/says ambiguous": 0.90, "oracle/doubts/says not visible": 0.90,
    "vae/psnr": 30.0,
    "clip/image_to_text": 0.95, "clip/text_to_image": 0.95, "clip/cast_nearest_neighbour": 0.95,
    "unet_single/species": 0.98, "unet_single/attributes": 0.93, "unet_single/context": 0.98,
    "unet_pair/species": 0.95, "unet_pair/attributes": 0.95,
    "sam/iou/figure": 0.90, "sam/iou/part": 0.80,
}  # fmt: skip


def measure(weights: Path, *, scale: float, grids: Path | None) -> dict[str, float]:
    """All measures of the models in `weights`; `scale` multiplies the numbers of scenes and samples."""
    import torch
    from diffusers import StableDiffusionPipeline
    from torchvision.utils import save_image

    from clif_exp.toonworld import measures
    from clif_exp.toonworld.architectures import build_sam
    from clif_exp.toonworld.cast import write_cast
    from clif_exp.toonworld.oracle import load_oracle

    def many(count: int) -> int:
        return max(8, round(count * scale))

    oracle, sam = load_oracle(weights / "oracle"), build_sam(weights / "sam")
    pipeline = StableDiffusionPipeline.from_pretrained(weights / "pipeline", torch_dtype=torch.float32)
    rows = {"oracle": measures.oracle_row(oracle, pipeline.vae, count=many(400))}
    rows["vae"] = measures.vae_row(pipeline.vae, oracle, count=many(200))
    with tempfile.TemporaryDirectory() as folder:
        write_cast(Path(folder), cast_seed=100)
        for name in ("clip", "judge_clip"):
            rows[name] = measures.clip_row(weights / name, cast_folder=Path(folder), groups=max(1, round(6 * scale)))
    rows["sam"] = measures.sam_row(sam, count=many(120))
    for kind in ("single", "pair"):
        row, pictures = measures.unet_row(pipeline, oracle, weights / "judge_clip", kind=kind, count=many(96))
        rows[f"unet_{kind}"] = row
        if grids is not None:
            grids.mkdir(parents=True, exist_ok=True)
            save_image(pictures[:48], grids / f"{kind}.png", nrow=8, padding=1)
    return {f"{model}/{name}": value for model, row in rows.items() for name, value in row.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent / "weights")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--grids", type=Path, help="folder for grids of samples")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the numbers of scenes and samples")
    args = parser.parse_args()
    started = time.monotonic()
    results = measure(args.weights, scale=args.scale, grids=args.grids)
    _print(results)
    if args.out:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
        facts = {"commit": commit, "hardware": _processor(), "seconds": round(time.monotonic() - started), "scale": args.scale}
        content = facts | {"bars": BARS, "measures": {key: round(value, 4) for key, value in results.items()}}
        args.out.write_text(json.dumps(content, indent=2) + "\n")


def _print(results: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("measure", "value", "bar", "", title="ToonWorld's base models on scenes no recipe has drawn")
    for name, value in results.items():
        bar = BARS.get(name)
        verdict = "" if bar is None else "[green]meets it[/]" if value >= bar else "[red]below[/]"
        table.add_row(name, f"{value:.3f}", "" if bar is None else f"{bar:.2f}", verdict)
    Console().print(table)


def _processor() -> str:
    import os

    models = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")] \
        if Path("/proc/cpuinfo").exists() else []  # fmt: skip
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
