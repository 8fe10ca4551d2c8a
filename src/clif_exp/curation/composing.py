"""Drawing planned images (CLIF, Fig. 4): clean cut-outs on one canvas, in several processes."""

from __future__ import annotations

import functools
import logging
import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clif_exp.artifacts.sharing import claim, share
from clif_exp.curation.arranging import keep_visible
from clif_exp.curation.library import Library
from clif_exp.curation.masks import write_mask, write_png
from clif_exp.curation.planning import image_file, plan_pair
from clif_exp.curation.settings import Kind, MixSettings, PairSettings

log = logging.getLogger(__name__)
_CHUNK = 64  # images per task
_WORTH_WORKERS = 4 * _CHUNK  # below this, starting processes costs more than drawing


@dataclass(frozen=True)
class Job:
    """All that a worker needs to draw any image of one kind; `roots` are the artifacts' folders."""

    kind: Kind
    seed: int
    library: Library
    settings: PairSettings
    roots: Mapping[str, Path]  # segments and contexts
    out: Path


def compose_all(job: Job, *, num_workers: int) -> Iterator[dict[str, Any]]:
    """Draw all images of a job that are not there yet.

    Args:
        job: what to draw.
        num_workers: processes; the result is the same for any number.

    Yields:
        The lines of the manifest, in order. Only one chunk per worker is in memory.
    """
    num_pairs = job.settings.num_pairs
    for folder in ("images", "masks"):
        (job.out / folder).mkdir(exist_ok=True)
    chunks = [range(start, min(start + _CHUNK, num_pairs)) for start in range(0, num_pairs, _CHUNK)]
    if num_workers <= 1 or num_pairs < _WORTH_WORKERS:
        for chunk in chunks:
            yield from _compose_chunk(job, chunk)
    else:
        # spawn: a fork of a process that holds torch's threads may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
            for lines in pool.map(functools.partial(_compose_chunk, job), chunks):
                yield from lines
    # Chunks that another process claimed: wait for them, or draw them should it have died.
    by_key = {_key(chunk): chunk for chunk in chunks}
    share(
        job.out,
        by_key,
        done=lambda key: _is_drawn(job, by_key[key]),
        work=lambda key: _draw_chunk(job, _plan(job, by_key[key])),
    )


def draw(
    line: Mapping[str, Any], *, roots: Mapping[str, Path], resolution: int
) -> tuple[Image.Image, list[np.ndarray]]:
    """Draw one planned image.

    Args:
        line: a manifest line, as `_plan` makes it.
        roots: artifact folders that hold the cut-outs.
        resolution: side of the canvas in px.

    Returns:
        RGB image, and the visible mask of each source, bool [H, W].
    """
    if line["background"] is None:
        canvas = Image.new("RGBA", (resolution, resolution), (255, 255, 255, 255))
    else:
        canvas = (
            Image.open(roots["contexts"] / line["background"])
            .convert("RGBA")
            .resize((resolution, resolution), Image.Resampling.LANCZOS)
        )
    sources = line["sources"]
    masks = [np.zeros((resolution, resolution), bool) for _ in sources]
    order = [slot for slot in range(len(sources)) if slot != line["front"]] + [line["front"]]
    for slot in order:
        source = sources[slot]
        x0, y0, x1, y1 = source["box"]
        figure = _figure(source, roots)
        canvas.alpha_composite(figure, (x0, y0))
        covered = np.zeros((resolution, resolution), bool)
        covered[y0:y1, x0:x1] = _shape(figure)
        for other in masks:
            other &= ~covered
        masks[slot] |= covered
    return canvas.convert("RGB"), masks


def _compose_chunk(job: Job, chunk: range) -> list[dict[str, Any]]:
    lines = _plan(job, chunk)
    with claim(job.out, _key(chunk)) as mine:
        if mine:
            _draw_chunk(job, lines)
    return lines


def _plan(job: Job, chunk: range) -> list[dict[str, Any]]:
    lines = [
        plan_pair(job.kind, index, library=job.library, settings=job.settings, seed=job.seed)
        for index in chunk
    ]
    return [_uncovered(job, line) if "arrangement" in line else line for line in lines]


def _uncovered(job: Job, line: dict[str, Any]) -> dict[str, Any]:
    """Move two figures apart until as much of both is visible as the settings ask for."""
    settings = job.settings
    assert isinstance(settings, MixSettings)
    boxes = keep_visible(
        [source["box"] for source in line["sources"]],
        [_shape(_figure(source, job.roots)) for source in line["sources"]],
        front=line["front"],
        min_visible=settings.min_visible,
        resolution=settings.resolution,
        margin=round(settings.margin * settings.resolution),
    )
    sources = [
        source | {"box": list(box)} for source, box in zip(line["sources"], boxes, strict=True)
    ]
    return line | {"sources": sources}


def _draw_chunk(job: Job, lines: list[dict[str, Any]]) -> None:
    for line in lines:
        if (job.out / line["file"]).is_file():
            continue  # drawn before the run was interrupted: images appear last and whole
        image, masks = draw(line, roots=job.roots, resolution=job.settings.resolution)
        for source, mask in zip(line["sources"], masks, strict=True):
            write_mask(job.out / source["mask"], mask)
        write_png(job.out / line["file"], image)


def _key(chunk: range) -> str:
    return f"{chunk.start:06d}"


def _is_drawn(job: Job, chunk: range) -> bool:
    return all((job.out / image_file(index)).is_file() for index in chunk)


def _figure(source: Mapping[str, Any], roots: Mapping[str, Path]) -> Image.Image:
    """A source's cut-out in the size of its box, RGBA."""
    x0, y0, x1, y1 = source["box"]
    return _cutout(roots[source["root"]] / source["source"], source["flip"]).resize(
        (x1 - x0, y1 - y0), Image.Resampling.LANCZOS
    )


def _shape(figure: Image.Image) -> np.ndarray:
    """What a figure covers, bool [h, w]."""
    return np.asarray(figure.getchannel("A")) > 127


@functools.lru_cache(maxsize=64)  # photographs' take up to 16 MB each
def _cutout(file: Path, flip: bool) -> Image.Image:
    image = Image.open(file).convert("RGBA")
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image
