"""Runs that nobody trained, with settings, metrics, curves and images as a sweep has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clif_exp.compare.page import write_page
from clif_exp.compare.run import Run, RunImage

SCENES = ("", " in the desert", " on the beach", " in a garden", " at night", " in the snow")
RANKS, RATES, METHODS = (4, 8, 16, 32), (1e-4, 3e-4, 1e-3), ("clif", "joint_lora", "mix_of_show")


def sweep(
    count: int,
    *,
    images: Sequence[RunImage] = (),
    images_of: Mapping[int, Sequence[RunImage]] | None = None,
    steps: int = 120,
    seeds: int = 3,
    failed: Sequence[int] = (),
) -> list[Run]:
    """Return the first `count` runs of a sweep over method, rank, learning rate and seed.

    Args:
        count: of runs.
        images: that all runs have.
        images_of: instead, by the run's place.
        steps: of stage 2; stage 1 has half as many.
        seeds: of every combination.
        failed: places of runs that failed by running out of memory.
    """
    runs = []
    for place in range(count):
        grid, seed = divmod(place, seeds)
        method = METHODS[grid % 3]
        rank, rate = RANKS[grid // 3 % 4], RATES[grid // 12 % 3]
        drawn = np.random.default_rng(place)
        quality = 0.62 + 0.05 * math.log2(rank) - 0.08 * METHODS.index(method)
        quality += 0.04 * math.log10(rate / 1e-4) + drawn.normal(0, 0.02)
        broken = place in failed
        name = f"method={method} diffusion.rank={rank} diffusion.learning_rate={rate:g} seed={seed}"
        runs.append(
            Run(
                folder=Path("/data/multirun/ranks/2026-11-27_10-00-00") / f"{place:03d}",
                name=name,
                sweep=Path("/data/multirun/ranks/2026-11-27_10-00-00"),
                status="failed" if broken else "finished",
                error="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
                if broken
                else None,
                seed=seed,
                settings={
                    "method": method,
                    "diffusion.rank": rank,
                    "diffusion.learning_rate": rate,
                    "diffusion.steps": 800,
                    "augmentation.mix.kinds": "[left_right, over]",
                    "model.path": "toonworld",
                    "trainer.precision": "bf16-mixed",
                    "wandb.project": None,
                },
                metrics={} if broken else metrics(quality, drawn),
                seconds={"curation": 35.5, "contrastive": 14.7, "diffusion": 119 + 3.0 * rank},
                reused=["curation"] if place else [],
                provenance={
                    "command": f"python -m clif_exp method={method} diffusion.rank={rank}"
                    f" diffusion.learning_rate={rate:g} seed={seed}",
                    "commit": "0a0f276c1d",
                    "hardware": "AMD EPYC 9R14, 2 cores, AVX-512 bf16",
                    "versions": "clif_exp 0.1.0, torch 2.9.1, diffusers 0.42.0",
                    "started": f"2026-11-27 10:{place % 60:02d}",
                },
                curves=curves(quality, drawn, steps=steps // 4 if broken else steps),
                images=() if broken else (images_of[place] if images_of else images),
            )
        )
    return runs


def metrics(quality: float, drawn: np.random.Generator) -> dict[str, float | None]:
    """Return metrics that go with a run's quality, about 0 to 1."""
    noisy = lambda value: float(np.clip(value + drawn.normal(0, 0.015), 0, 1))
    return {
        "single/identity": noisy(quality + 0.12),
        "single/attendance": noisy(0.97),
        "single/text_alignment": 1.4 + 0.2 * noisy(quality),
        "single/pictures": 24.0,
        "multi/identity": noisy(quality),
        "multi/attendance": noisy(quality + 0.1),
        "multi/leakage": noisy(0.9 - quality) - 0.05,
        "multi/confusion": noisy(1.1 - quality),
        "multi/side": None,
        "multi/pairs_seen/identity": noisy(quality + 0.02),
        "multi/pictures": 48.0,
        "prior/identity": noisy(0.9),
        "told_apart": noisy(quality),
    }


def curves(
    quality: float, drawn: np.random.Generator, *, steps: int
) -> dict[str, list[tuple[int, float]]]:
    """Return curves of both stages."""
    falling = lambda step, length: (1.1 - quality) * (0.25 + 0.75 * math.exp(-4 * step / length))
    noise = drawn.normal(0, 1, steps + 1)
    return {
        "contrastive/loss": [
            (step, 5 * falling(step, steps // 2) + 0.1 * noise[step])
            for step in range(1, steps // 2)
        ],
        "diffusion/loss": [
            (step, falling(step, steps) * math.exp(0.25 * noise[step])) for step in range(1, steps)
        ],
        "diffusion/validation_loss": [
            (step, falling(step, steps)) for step in range(0, steps, max(1, steps // 12))
        ],
        "diffusion/lr": [(step, 1e-4 * (1 - step / steps)) for step in range(1, steps)],
    }


def draw_images(
    folder: Path, *, prompts: int = 4, seeds: int = 2, side: int = 64, start: int = 0
) -> list[RunImage]:
    """Draw images of two blobs, another one for each prompt, seed and start; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    across, down = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    for place in range(prompts):
        for seed in range(seeds):
            drawn = np.random.default_rng([start, place, seed])
            pixels = np.ones((side, side, 3)) * drawn.uniform(0.5, 1, 3)
            for _ in range(2):
                x, y = drawn.uniform(0.2, 0.8, 2)
                inside = (across - x) ** 2 + (down - y) ** 2 < drawn.uniform(0.02, 0.05)
                pixels[inside] = drawn.uniform(0, 1, 3)
            pixels += drawn.normal(0, 0.03, pixels.shape)
            file = folder / f"{start}-{place}-{seed}.png"
            Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8)).save(file)
            part = "multi" if place % 2 else "single"
            who = "<ada> and <bolt>" if part == "multi" else "<ada>"
            scene = SCENES[place % len(SCENES)]
            found.append(RunImage(file, f"a picture of {who}{scene}", seed, part))
    return found


def page_of(folder: Path, runs: Sequence[Run], **options: Any) -> Path:
    """Write the page of runs into a folder; return its file."""
    out = folder / "comparison.html"
    write_page(runs, out, title=options.pop("title", "ranks"), **options)
    return out
