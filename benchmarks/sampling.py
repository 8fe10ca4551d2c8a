"""Sampling a run's evaluation images in batches, against one call of the stock pipeline per prompt.

python benchmarks/sampling.py --out experiments/sampling_speed

Both draw the evaluation prompts of the default config, in class words, by ToonWorld's base model:
same noise seeds, scheduler, steps and guidance. The stock pipeline is loaded as diffusers loads it
and runs as it is (fp32), and once under our precision (bf16 autocast). The sides take turns, batch
by batch, and the medians over batches count, so that other load on the machine meets all of them.
The bar is 3 times as many images per second, and the same images.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from clif_exp.artifacts.provenance import git_commit, hardware
from clif_exp.base_models.loading import load_pipeline, quiet_loading
from clif_exp.base_models.precision import cpu_autocast
from clif_exp.base_models.spec import BaseModels, resolve
from clif_exp.concepts.reading import read_concept_set
from clif_exp.generation.sampling import noise_seed, sample
from clif_exp.generation.settings import GenerationSettings
from clif_exp.prompts.evaluation import in_class_words
from clif_exp.runs.composing import compose
from clif_exp.runs.preparation import select_prompts
from clif_exp.toonworld.cast import write_cast

Batch = Sequence[tuple[str, int]]
"""Prompts with the seeds of their noise."""
Draw = Callable[[Batch], list[np.ndarray]]


def batches(settings: GenerationSettings, *, count: int) -> list[Batch]:
    """Return batches of the default run's evaluation prompts, with further seeds if need be."""
    with tempfile.TemporaryDirectory() as root:
        write_cast(Path(root), size=compose().dataset.size or 4)
        prompts = in_class_words(select_prompts(read_concept_set(Path(root)), settings.prompts))
    jobs = [
        (prompt.text, noise_seed(prompt.text, seed))
        for seed in range(1 + count * settings.batch_size // len(prompts))
        for prompt in prompts
    ]
    size = settings.batch_size
    return [jobs[start : start + size] for start in range(0, count * size, size)]


def sides(settings: GenerationSettings) -> dict[str, Draw]:
    """Return what is compared: ours and the stock pipeline, each in both precisions."""
    from diffusers import StableDiffusionPipeline

    spec = resolve(BaseModels(family="toonworld", resolution=128))
    own = load_pipeline(spec)
    with quiet_loading():
        stock: Any = StableDiffusionPipeline.from_pretrained(spec.path)
    stock.set_progress_bar_config(disable=True)
    how = {
        "num_inference_steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
    }

    def ours(batch: Batch, *, mixed_precision: bool) -> list[np.ndarray]:
        texts, seeds = zip(*batch, strict=True)
        return sample(own, texts, noise_seeds=seeds, mixed_precision=mixed_precision, **how)

    def stocks(batch: Batch, *, mixed_precision: bool) -> list[np.ndarray]:
        images = []
        for text, seed in batch:
            with cpu_autocast(enabled=mixed_precision):
                generator = torch.Generator("cpu").manual_seed(seed)
                image = stock(text, generator=generator, **how).images[0]
            images.append(np.asarray(image))
        return images

    return {
        "ours": lambda batch: ours(batch, mixed_precision=settings.mixed_precision),
        "stock": lambda batch: stocks(batch, mixed_precision=False),
        "stock, our precision": lambda batch: stocks(batch, mixed_precision=True),
        "ours, fp32": lambda batch: ours(batch, mixed_precision=False),
    }


def likeness(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> dict[str, float]:
    """Count equal images, and return the differences of 8-bit pixels."""
    differences = [np.abs(x.astype(int) - y.astype(int)) for x, y in zip(a, b, strict=True)]
    return {
        "images": len(differences),
        "equal": int(sum(not difference.any() for difference in differences)),
        "largest difference": int(max(difference.max() for difference in differences)),
        "mean difference": round(float(np.mean([d.mean() for d in differences])), 4),
        "images with a mean difference above 1": int(sum(d.mean() > 1 for d in differences)),
    }


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for results.json")
    parser.add_argument("--batches", type=int, default=4, help="of each side; 4 are a run's images")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = compose().generation
    draws = sides(settings)
    for draw in draws.values():  # what only the first call costs
        draw([("a photo of a cat", 0), ("a photo of a dog", 1)])
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in draws}
    images: dict[str, list[np.ndarray]] = {name: [] for name in draws}
    for batch in batches(settings, count=args.batches):
        for name, draw in draws.items():
            wall, processor = time.perf_counter(), time.process_time()
            images[name] += draw(batch)
            spent[name].append((time.perf_counter() - wall, time.process_time() - processor))
    rates = {
        name: {
            clock: round(settings.batch_size / median(pair[index] for pair in pairs), 2)
            for index, clock in enumerate(("per second", "per processor second"))
        }
        for name, pairs in spent.items()
    }
    result = {
        "images": rates,
        "times as many as stock": {
            clock: {
                "stock": _ratio(spent, "stock", index),
                "stock, our precision": _ratio(spent, "stock, our precision", index),
            }
            for index, clock in enumerate(("per second", "per processor second"))
        },
        "the same images": {
            "fp32, ours and stock": likeness(images["ours, fp32"], images["stock"]),
            "our precision, ours and stock": likeness(
                images["ours"], images["stock, our precision"]
            ),
            "ours and stock in fp32": likeness(images["ours"], images["stock"]),
        },
        "batch_size": settings.batch_size,
        "batches": args.batches,
        "steps": settings.num_inference_steps,
        "hardware": hardware(),
        "threads": args.threads,
        "commit": git_commit(digits=7),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")


def _ratio(spent: dict[str, list[tuple[float, float]]], other: str, clock: int) -> float:
    """Return the median over batches of another side's seconds by ours."""
    pairs = zip(spent[other], spent["ours"], strict=True)
    return round(median(theirs[clock] / own[clock] for theirs, own in pairs), 2)


if __name__ == "__main__":
    main()
