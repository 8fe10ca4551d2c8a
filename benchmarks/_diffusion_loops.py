"""The two loops that benchmarks/diffusion.py compares, each in its own process.

`python _diffusion_loops.py ours|stock JSON`. Seconds are processor time, which other load on the
machine does not change: nothing here waits for anything.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]


def write_data(root: Path, *, concepts: int, pairs: int = 40) -> None:
    """Write ToonWorld's cast, of which `_concepts` makes as many as wanted, and M pairs."""
    from clif_exp.concepts.reading import read_concept_set
    from clif_exp.toonworld.cast import write_cast

    write_cast(root / "cast", size=min(concepts, 18))
    names = [concept.name for concept in _concepts(root, concepts).concepts]
    files = {concept.name: concept.images[0].file for concept in _concepts(root, concepts).concepts}
    assert read_concept_set(root / "cast").concepts
    (root / "M" / "images").mkdir(parents=True)
    lines = []
    for index in range(pairs):
        chosen = [names[index % concepts], names[(index * 7 + 1) % concepts]]
        canvas = Image.new("RGB", (128, 128), "white")
        for place, name in enumerate(chosen):
            with Image.open(files[name]) as image:
                canvas.paste(image.convert("RGB").resize((60, 60)), (2 + 64 * place, 40))
        canvas.save(root / "M" / "images" / f"{index:06d}.png")
        caption = f"a photo of <{chosen[0]}> on the left and <{chosen[1]}> on the right"
        lines.append(
            {
                "file": f"images/{index:06d}.png",
                "caption": caption,
                "sources": [{"concept": name} for name in chosen],
            }
        )
    (root / "M" / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _concepts(root: Path, count: int) -> Any:
    from clif_exp.concepts.reading import read_concept_set

    cast = read_concept_set(root / "cast")
    many = [
        replace(cast.concepts[i % len(cast.concepts)], name=f"concept_{i}") for i in range(count)
    ]
    return replace(cast, concepts=tuple(many))


def _spec() -> Any:
    from clif_exp.base_models.spec import BaseModels, resolve

    return resolve(BaseModels(family="toonworld", resolution=128))


def ours(
    root: Path, *, concepts: int, batch_size: int, steps: int, precision: str, ranks: int = 1
) -> dict[str, Any]:
    """Train stage 2 as the pipeline does; a step lasts from one row of metrics.csv to the next."""
    from clif_exp.diffusion.stage import train_diffusion
    from clif_exp.runs.composing import compose

    config = compose(
        f"trainer={'ddp_sim' if ranks > 1 else 'cpu'}",
        f"trainer.precision={precision}",
        f"trainer.devices={ranks}",
        f"diffusion.steps={steps}",
        f"diffusion.batch_size={batch_size}",
        f"diffusion.target_modules={json.dumps(TARGETS)}",
        "diffusion.rank=16",
        "diffusion.learning_rate=3e-3",
        "diffusion.schedule=constant",
        "diffusion.warmup_steps=0",
        "diffusion.validation=null",
        "diffusion.samples=null",
    )
    times: list[float] = [time.process_time()]
    out, done = root / "stage", threading.Event()
    out.mkdir(exist_ok=True)  # Lightning starts a second rank by the same command
    watcher = threading.Thread(target=_watch, args=(out / "metrics.csv", times, done))
    watcher.start()
    train_diffusion(
        out,
        spec=_spec(),
        concepts=_concepts(root, concepts),
        manifest=root / "M",
        segments=None,
        embeddings=None,
        trainer=config.trainer,
        seed=0,
        settings=config.diffusion,
    )
    done.set()
    watcher.join()
    losses = [
        float(line.split(",")[1]) for line in (out / "metrics.csv").read_text().splitlines()[1:]
    ]
    return {
        "before_first_step": times[1] - times[0],
        "seconds": np.diff(times[1:]).tolist(),
        "losses": losses,
    }


def _watch(file: Path, times: list[float], done: threading.Event) -> None:
    seen = 1  # the header
    while not done.is_set():
        with contextlib.suppress(FileNotFoundError):
            lines = file.read_bytes().count(b"\n")
            times += [time.process_time()] * (lines - seen)
            seen = max(seen, lines)
        time.sleep(0.001)


def stock(
    root: Path, *, concepts: int, batch_size: int, steps: int, precision: str
) -> dict[str, Any]:
    """Train like diffusers' train_text_to_image_lora.py, which encodes images and texts each step.

    It gets our batches' images, captions, noise and timesteps, the latents' mode instead of a
    sample (the same cost), the same attention, and autocast for its frozen parts too, as a careful
    user would set it up.
    """
    from clif_exp.base_models.loading import encode_images, load_pipeline
    from clif_exp.base_models.precision import best_precision
    from clif_exp.base_models.tokens import add_concept_tokens, tokenize
    from clif_exp.base_models.unet_tuning.lora import LoraTuning
    from clif_exp.diffusion.batches import MixedBatches, Mixture
    from clif_exp.diffusion.images import load_pixels, training_images

    started, own = time.process_time(), _concepts(root, concepts)
    pipeline = load_pipeline(_spec())
    images = training_images(own, manifest=root / "M", segments=None, prior=())
    words = {concept.name: concept.class_word for concept in own.concepts}
    num_tokens = {
        name: len(ids)
        for name, ids in add_concept_tokens(
            pipeline.tokenizer, pipeline.text_encoder, concepts=words, num_tokens=2
        ).items()
    }
    trained = LoraTuning(16, 16.0, tuple(TARGETS)).prepare(pipeline.unet, seed=0)
    optimizer = torch.optim.AdamW(trained, lr=3e-3, weight_decay=0.01)
    captions = list(
        dict.fromkeys(["", *(caption for image in images for caption in image.captions)])
    )
    # Latents that hold their own index: the batch tells which images are in it.
    channels, side = pipeline.unet.config.in_channels, 128 // 8
    numbered = torch.arange(float(len(images))).view(-1, 1, 1, 1).expand(-1, channels, side, side)
    plan = MixedBatches(
        images, numbered, None, Mixture(batch_size, 0.5), num_timesteps=1000, captions=captions
    )
    bf16 = (best_precision("cpu") if precision == "auto" else precision) == "bf16-mixed"
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16)
    scheduler, times, losses = _training_scheduler(pipeline), [time.process_time()], []
    for step in range(steps):
        batch = plan(step)
        pixels = torch.stack(
            [load_pixels(images[int(i)], resolution=128) for i in batch["latents"][:, 0, 0, 0]]
        )
        ids = tokenize(
            pipeline.tokenizer, batch["captions"], num_tokens=num_tokens, pad="max_length"
        )
        with autocast:
            with torch.no_grad():
                latents = encode_images(pipeline.vae, pixels).float()
                hidden = pipeline.text_encoder(ids).last_hidden_state
            noisy = scheduler.add_noise(latents, batch["noise"], batch["timesteps"])
            target = scheduler.get_velocity(latents, batch["noise"], batch["timesteps"])
            predicted = pipeline.unet(
                noisy, batch["timesteps"], encoder_hidden_states=hidden
            ).sample
            loss = F.mse_loss(predicted.float(), target.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        times.append(time.process_time())
    return {
        "before_first_step": times[0] - started,
        "seconds": np.diff(times).tolist(),
        "losses": losses,
    }


def _training_scheduler(pipeline: Any) -> Any:
    from diffusers import DDPMScheduler

    return DDPMScheduler.from_config(pipeline.scheduler.config)


def main() -> None:
    """Run one loop and print what it took, as one line of JSON."""
    settings = json.loads(sys.argv[2])
    threads = settings.pop("threads")
    if threads:
        torch.set_num_threads(threads)
    # What both need, outside the measurement.
    import peft  # noqa: F401

    import clif_exp.diffusion.module  # noqa: F401
    from clif_exp.artifacts.memory import peak_memory_mb

    root = Path(settings.pop("root"))
    held = peak_memory_mb()
    result = {"ours": ours, "stock": stock}[sys.argv[1]](root, **settings)
    print(json.dumps(result | {"peak_memory_mb": peak_memory_mb(), "libraries_mb": held}))


if __name__ == "__main__":
    main()
