"""Measures the base models: `python -m clif_exp.toonworld.evaluate --card`, minutes on 2 CPU cores.

Prints one row per measure beside the bar it should reach. `--card` writes the model card beside the
weights (README.md, and measures.json with hardware and commit), `--grids` writes grids of samples.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from clif_exp.artifacts.provenance import git_commit, hardware

# measure -> (bar, higher is better)
BARS = {
    "oracle/clean/species": 0.99,
    "oracle/clean/attributes": 0.98,
    "oracle/clean/figures": 0.99,
    "oracle/after_vae/species": 0.99,
    "oracle/after_vae/attributes": 0.98,
    "oracle/after_vae/figures": 0.99,
    "oracle/blurred/attributes": 0.98,
    "oracle/noisy/attributes": 0.98,
    "oracle/doubts/says ambiguous": 0.90,
    "oracle/doubts/says not visible": 0.90,
    "vae/psnr": 30.0,
    "clip/image_to_text": 0.95,
    "clip/text_to_image": 0.95,
    "clip/cast_nearest_neighbour": 0.95,
    "unet_single/species": 0.98,
    "unet_single/attributes": 0.93,
    "unet_single/context": 0.98,
    "unet_pair/species": 0.95,
    "unet_pair/attributes": 0.95,
    "unet_relation/mean": 0.80,
    "unet_stock/right": 0.80,
    "sam/iou/figure": 0.90,
    "sam/iou/part": 0.80,
    "sam/parts_found": 0.90,
}


def measure(weights: Path, *, scale: float, grids: Path | None) -> dict[str, float]:
    """Measure the models in `weights`.

    Args:
        weights: folder of the base models.
        scale: multiplies the numbers of scenes and samples.
        grids: folder for grids of samples, or None.

    Returns:
        Measure, named model/measure -> value.
    """
    import torch
    from diffusers import StableDiffusionPipeline
    from torchvision.utils import save_image

    from clif_exp.base_models.sam import build_small_sam
    from clif_exp.toonworld import measures, measures_clip, measures_unet
    from clif_exp.toonworld.oracle import load_oracle

    def many(count: int) -> int:
        return max(8, round(count * scale))

    if grids is not None:
        grids.mkdir(parents=True, exist_ok=True)  # before the expensive part
    oracle, sam = load_oracle(weights / "oracle"), build_small_sam(weights / "sam")
    pipeline = StableDiffusionPipeline.from_pretrained(
        weights / "pipeline", torch_dtype=torch.float32
    )
    rows = {"oracle": measures.oracle_row(oracle, pipeline.vae, count=many(400))}
    rows["vae"] = measures.vae_row(pipeline.vae, oracle, count=many(200))
    for name in ("clip", "judge_clip"):
        rows[name] = measures_clip.clip_row(
            weights / name, cast_seed=100, groups=max(1, round(6 * scale))
        )
    rows["sam"] = measures.sam_row(sam, count=many(120)) | {
        "parts_found": measures.sam_coverage(sam, count=many(60))
    }
    judge, drawn = weights / "judge_clip", {}
    for kind in ("single", "pair", "named"):
        rows[f"unet_{kind}"], drawn[kind] = measures_unet.unet_row(
            pipeline, oracle, judge, kind=kind, count=many(96)
        )
    rows["unet_relation"], drawn["relations"] = measures_unet.relations_row(
        pipeline, oracle, count=many(160)
    )
    rows["unet_relation"] |= measures_unet.without_fresh_noise(pipeline, oracle, count=many(160))
    rows["unet_stock"], drawn["stock"] = measures_unet.stock_row(pipeline, oracle, judge)
    rows["unet_unknown"], drawn["unknown"] = measures_unet.unknown_row(
        pipeline, oracle, count=many(48)
    )
    rows["cost"] = measures_unet.cost_row(pipeline)
    for name, images in drawn.items():
        if grids is None:
            break
        save_image(images, grids / f"{name}.png", nrow=16 if name == "relations" else 8, padding=1)
    return {f"{model}/{name}": value for model, row in rows.items() for name, value in row.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent / "weights")
    parser.add_argument(
        "--card", action="store_true", help="write README.md and measures.json beside the weights"
    )
    parser.add_argument("--grids", type=Path, help="folder for grids of samples")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiplies the numbers of scenes and samples"
    )
    args = parser.parse_args()
    started = time.monotonic()
    results = measure(args.weights, scale=args.scale, grids=args.grids)
    _print(results)
    if args.card:
        facts = {
            "commit": git_commit(digits=7),
            "hardware": hardware(),
            "seconds": round(time.monotonic() - started),
            "scale": args.scale,
        }
        rounded = {key: round(value, 4) for key, value in results.items()}
        (args.weights / "measures.json").write_text(
            json.dumps(facts | {"bars": BARS, "measures": rounded}, indent=2) + "\n"
        )
        (args.weights / "README.md").write_text(
            model_card(rounded, facts, size=_size(args.weights))
        )


def model_card(results: dict[str, float], facts: dict[str, object], *, size: float) -> str:
    """Write the model card in Markdown: what the models are and achieve, how to use and train them.

    Args:
        results: measure -> value.
        facts: commit, hardware, seconds and scale of the measurement.
        size: of all weights, in MB.
    """
    rows = [
        f"| {name} | {value:.3f} | {'' if name not in BARS else f'{BARS[name]:g}'} |"
        f" {_verdict(name, value)} |"
        for name, value in results.items()
    ]
    below = [name for name in BARS if name in results and results[name] < BARS[name]]
    summary = (
        f"{len(BARS) - len(below)} of {len(BARS)} bars are met; below: {', '.join(below)}."
        if below
        else "All bars are met."
    )
    return _CARD.format(rows="\n".join(rows), summary=summary, size=round(size), **facts)


_CARD = """# ToonWorld's base models

Small models of a drawn world (`clif_exp.toonworld`), trained by this project on its own \
renderings and on nothing else; Apache-2.0.
{size} MB in fp16 safetensors. They know the world's general concepts and none of its casts; they \
know nothing of photographs.

| folder | class | loads with |
| --- | --- | --- |
| pipeline/ | Stable Diffusion at 128 px: text encoder, AutoencoderKL (8 x 16 x 16), U-Net \
| `diffusers.StableDiffusionPipeline` |
| clip/ | the contrastive CLIP of stage 1; its text tower is the pipeline's \
| `transformers.CLIPModel` |
| judge_clip/ | another CLIP (other width, patches, images and seed), for evaluation only \
| `transformers.CLIPModel` |
| sam/ | segment-anything's classes at 128 px | `clif_exp.base_models.sam.build_small_sam` |
| oracle/ | reads every figure's attributes, for evaluation only \
| `clif_exp.toonworld.oracle.load_oracle` |

    pipeline = StableDiffusionPipeline.from_pretrained("src/clif_exp/toonworld/weights/pipeline")
    pipeline("a photo of a cat with a red crown next to a robot on the beach", \
guidance_scale=3.5).images[0]

Training: `python -m clif_exp.toonworld.train all`, in slices with `--max-time`, or from these \
weights with `restore` and `--warm`;
then `python -m clif_exp.toonworld.train install`. HISTORY.md tells how these weights were made.

## Measured

`python -m clif_exp.toonworld.evaluate --card --scale {scale}` at {commit} on {hardware}, \
{seconds} s; on scenes that no recipe has drawn.
{summary} What is missing from 1 under `unet_pair` is the floor under every leakage number \
of a run.

| measure | value | bar | |
| --- | --- | --- | --- |
{rows}
"""


def _verdict(name: str, value: float) -> str:
    return "" if name not in BARS else "meets it" if value >= BARS[name] else "below"


def _size(weights: Path) -> float:
    return sum(file.stat().st_size for file in weights.rglob("*.safetensors")) / 1e6


def _print(results: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "measure", "value", "bar", "", title="ToonWorld's base models on scenes no recipe has drawn"
    )
    for name, value in results.items():
        bar = BARS.get(name)
        verdict = "" if bar is None else "[green]meets it[/]" if value >= bar else "[red]below[/]"
        table.add_row(name, f"{value:.3f}", "" if bar is None else f"{bar:.2f}", verdict)
    Console().print(table)


if __name__ == "__main__":
    main()
