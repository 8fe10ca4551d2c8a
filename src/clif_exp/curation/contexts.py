"""General concepts (CLIF, section 4.1): sampled from the base model, cut out and screened."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clif_exp.artifacts.files import read_jsonl, write_jsonl
from clif_exp.artifacts.sharing import share
from clif_exp.base_models.loading import load_pipeline
from clif_exp.base_models.spec import BaseModels
from clif_exp.curation.masks import cut_out, plain_background, write_png
from clif_exp.curation.segmenters.build import build_segmenter
from clif_exp.curation.segmenters.settings import SegmenterSettings
from clif_exp.curation.segmenting import Segmented, find_object
from clif_exp.curation.settings import ScreenSettings
from clif_exp.curation.similarity import RegionText
from clif_exp.prompts.articles import with_article

SCREENED = "screened"  # folder of what is cut out and screened so far
_BATCH = 16  # images segmented at once


@dataclass(frozen=True)
class Candidate:
    """One image to sample; `kind` is whole, part or background."""

    name: str
    kind: str
    prompt: str
    seed: int
    file: str


def list_candidates(
    *,
    names: Sequence[str],
    part_names: Sequence[str],
    backgrounds: Sequence[str],
    images_per_name: int,
    oversampling: float,
    template: str,
    background_template: str,
    seed: int,
) -> list[Candidate]:
    """List every image to sample; each has its own seed, from (seed, kind, name, number)."""
    candidates = []
    tries = max(images_per_name, round(images_per_name * oversampling))
    for kind, group, count in (
        ("whole", names, tries),
        ("part", part_names, tries),
        ("background", backgrounds, images_per_name),
    ):
        for name in group:
            prompt = (
                background_template.format(name=name)
                if kind == "background"
                else template.format(name=with_article(name))
            )
            for number in range(count):
                digest = hashlib.sha256(f"{seed}/{kind}/{name}/{number}".encode()).digest()
                own_seed = int.from_bytes(digest[:4], "big")
                file = f"images/{kind}_{slug(name)}_{number:02d}.png"
                candidates.append(Candidate(name, kind, prompt, own_seed, file))
    return candidates


def sample(
    out: Path,
    candidates: Sequence[Candidate],
    *,
    spec: BaseModels,
    num_inference_steps: int,
    guidance_scale: float,
    batch_size: int,
    device: str,
) -> None:
    """Sample the missing images from the base model, in batches that processes share.

    A batch is drawn whole or not at all, because its images' last bits depend on their
    neighbours.
    """
    (out / "images").mkdir(exist_ok=True)
    batches = {
        f"batch_{start:05d}": candidates[start : start + batch_size]
        for start in range(0, len(candidates), batch_size)
    }
    pipeline: Any = None

    def done(key: str) -> bool:
        return all((out / candidate.file).is_file() for candidate in batches[key])

    def work(key: str) -> None:
        import torch

        nonlocal pipeline
        pipeline = pipeline or load_pipeline(
            spec, device=device, dtype=torch.float32 if device == "cpu" else torch.float16
        )
        generators = [
            torch.Generator("cpu").manual_seed(candidate.seed) for candidate in batches[key]
        ]
        images = pipeline(
            prompt=[candidate.prompt for candidate in batches[key]],
            generator=generators,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            height=spec.resolution,
            width=spec.resolution,
        ).images
        for candidate, image in zip(batches[key], images, strict=True):
            write_png(out / candidate.file, image.convert("RGB"))

    share(out, batches, done=done, work=work, description="sampling general concepts")


def screened_out(
    found: Segmented | None,
    *,
    name: str,
    names: Sequence[str],
    clip: RegionText,
    screen: ScreenSettings,
) -> tuple[str | None, float]:
    """Say why a generated image is unusable as a context, and how similar it is to its name.

    Args:
        found: the cut-out, or None.
        name: what it should show.
        names: all names of its kind; its own must rank among the best.
        clip: compares them.
        screen: thresholds.

    Returns:
        Reason or None, and the cosine similarity to the name (-1 if nothing was found).
    """
    if found is None:
        return "nothing found", -1.0
    mask = found.whole_HW
    cosines = (
        clip.regions(found.image, [mask])[0]
        @ clip.texts([f"a photo of {with_article(other)}" for other in names]).T
    )
    own = float(cosines[list(names).index(name)])
    rank = int((cosines > own).sum()) + 1
    area, border = (
        float(mask.mean()),
        float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()),
    )
    if not screen.min_area <= area <= screen.max_area:
        return f"covers {area:.0%} of the image", own
    if border > screen.max_border:
        return f"touches {border:.0%} of the border", own
    rest = _largest_rest(found.image, mask)
    if rest > screen.max_rest:
        return f"is not alone (something else of {rest:.0%} of its size)", own
    if rank > screen.max_rank:
        return f"looks less like '{name}' than like {rank - 1} other names", own
    return None, own


def open_rgb(file: Path) -> np.ndarray:
    """Read an image that this stage wrote, uint8 RGB [H, W, 3]."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def slug(name: str) -> str:
    """Turn a name into part of a file name; distinct names stay distinct."""
    plain = "".join(c if c.isalnum() else "_" for c in name.lower()).strip("_")
    return (
        plain
        if plain.replace("_", " ") == name
        else f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    )


def _largest_rest(image: np.ndarray, mask: np.ndarray) -> float:
    """Size of the largest other thing on a plain background, as a share of the cut-out; else 0."""
    from scipy import ndimage

    foreground = plain_background(image)
    if foreground is None:
        return 0.0
    rest = foreground & ~ndimage.binary_dilation(mask, iterations=2)
    labels, count = ndimage.label(rest)
    return float(np.bincount(labels.ravel(), minlength=2)[1:].max() / mask.sum()) if count else 0.0


def cut_and_screen(
    out: Path,
    candidates: Sequence[Candidate],
    *,
    spec: BaseModels,
    segmenter: SegmenterSettings,
    device: str,
    screen: ScreenSettings,
) -> list[dict[str, Any]]:
    """Cut out and screen every sampled image, in batches that processes share.

    Args:
        out: the artifact's folder, with the sampled images.
        candidates: what was sampled.
        spec: base models.
        segmenter: what finds masks, and which of them is the thing.
        device: where SAM and CLIP run.
        screen: what a cut-out must fulfil.

    Returns:
        The lines of contexts.jsonl; of those, only backgrounds are marked as kept yet.
    """
    for folder in ("cutouts", SCREENED):
        (out / folder).mkdir(exist_ok=True)
    by_kind = {
        kind: list(dict.fromkeys(c.name for c in candidates if c.kind == kind))
        for kind in ("whole", "part")
    }
    things = [candidate for candidate in candidates if candidate.kind != "background"]
    batches = {
        f"{SCREENED}_{start:05d}": things[start : start + _BATCH]
        for start in range(0, len(things), _BATCH)
    }
    models: list[Any] = []

    def work(key: str) -> None:
        if not models:
            models.extend(
                (
                    build_segmenter(segmenter, spec=spec, device=device),
                    RegionText(spec, device=device),
                )
            )
        built_segmenter, clip = models
        images, lines = [open_rgb(out / candidate.file) for candidate in batches[key]], []
        for candidate, image, proposals in zip(
            batches[key], images, built_segmenter.propose(images), strict=True
        ):
            found = find_object(
                image,
                proposals,
                word=candidate.name,
                segmenter=built_segmenter,
                clip=clip,
                choose=dict(segmenter.choose),
                fallback=segmenter.fallback,
            )
            reason, similarity = screened_out(
                found, name=candidate.name, names=by_kind[candidate.kind], clip=clip, screen=screen
            )
            line = {**_line(candidate), "similarity": round(similarity, 4), "reason": reason}
            if found is not None:
                cutout, _ = cut_out(found.image, found.whole_HW)
                line |= {
                    "cutout": candidate.file.replace("images/", "cutouts/"),
                    "cutout_size": list(cutout.size),
                    "how": found.how,
                }
                write_png(out / line["cutout"], cutout)
            lines.append(line)
        write_jsonl(out / SCREENED / f"{key}.jsonl", lines)

    def done(key: str) -> bool:
        return (out / SCREENED / f"{key}.jsonl").is_file()

    share(out, batches, done=done, work=work, description="cutting out general concepts")
    lines = [
        {**_line(candidate), "cutout": candidate.file, "kept": True}
        for candidate in candidates
        if candidate.kind == "background"
    ]
    return lines + [line for key in batches for line in read_jsonl(out / SCREENED / f"{key}.jsonl")]


def _line(candidate: Candidate) -> dict[str, Any]:
    fields = {key: value for key, value in asdict(candidate).items() if key != "file"}
    return fields | {
        "image": candidate.file,
        "cutout": None,
        "cutout_size": None,
        "similarity": None,
        "reason": None,
        "kept": False,
    }


def keep_best_of_each(lines: list[dict[str, Any]], *, wanted: int, keep_best: bool) -> None:
    """Mark the most similar images of each name as kept, in place.

    Args:
        lines: from `cut_and_screen`.
        wanted: cut-outs to keep per name.
        keep_best: keep the best one of a name even if none passed.
    """
    for kind, name in dict.fromkeys(
        (line["kind"], line["name"]) for line in lines if line["kind"] != "background"
    ):
        own = sorted(
            (x for x in lines if (x["kind"], x["name"]) == (kind, name)),
            key=lambda x: -x["similarity"],
        )
        passed = [line for line in own if line["reason"] is None][:wanted]
        if not passed and keep_best:
            passed = [line for line in own if line["reason"] != "nothing found"][:1]
        for line in passed:
            line["kept"] = True
