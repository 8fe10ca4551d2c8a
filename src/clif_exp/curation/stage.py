"""The stage functions of curation: segments, contexts, and three kinds of augmented images."""

from __future__ import annotations

import logging
import shutil
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np

from clif_exp.artifacts.files import read_jsonl, write_jsonl
from clif_exp.artifacts.progress import track
from clif_exp.artifacts.sharing import forget, share
from clif_exp.base_models.spec import BaseModels
from clif_exp.concepts.concept import Concept, ConceptSet
from clif_exp.concepts.images import load_mask, mask_box
from clif_exp.curation.library import Library
from clif_exp.curation.masks import cut_out, resized, write_mask, write_png
from clif_exp.curation.planning import can_stand_together
from clif_exp.curation.segmenters.settings import SegmenterSettings
from clif_exp.curation.settings import (
    FIELDS,
    CaptionerSettings,
    ContextSettings,
    Kind,
    MixSettings,
    PairSettings,
)

log = logging.getLogger(__name__)


def segment_concepts(
    out: Path,
    *,
    concepts: ConceptSet,
    spec: BaseModels,
    segmenter: SegmenterSettings,
    captioner: CaptionerSettings,
    device: str = "cpu",
    finalize: bool = True,
) -> None:
    """Cut every concept and its parts out of its images (CLIF, section 4.1).

    Writes `segments.jsonl` (one line per whole and part: concept, image, file, kind, part, mask,
    cutout, box in px, cutout_size, area, score, how), `masks/` (grey PNG in the image's size) and
    `cutouts/` (RGBA PNG of the box, of an image of at most `segmenter.max_side` px).

    Args:
        out: folder to fill; concepts finished by an earlier, killed run are kept.
        concepts: the checked set.
        spec: base models.
        segmenter: what finds masks, and which of them are the concept and its parts.
        captioner: what lists the parts, and how they are named.
        device: where SAM and CLIP run.
        finalize: False contributes concepts to a folder that another process completes.

    Raises:
        ValueError: nothing was found in an image; names it and the remedy.
    """
    from clif_exp.curation.captioners.build import build_captioner
    from clif_exp.curation.segmenters.build import build_segmenter
    from clif_exp.curation.segmenting import segment_concept
    from clif_exp.curation.similarity import RegionText

    for folder in ("masks", "cutouts", "done"):
        (out / folder).mkdir(parents=finalize, exist_ok=True)
    built_captioner = build_captioner(captioner, device=device)
    built_segmenter = build_segmenter(segmenter, spec=spec, device=device)
    by_name = {concept.name: concept for concept in concepts.concepts}
    clip: RegionText | None = None

    def work(name: str) -> None:
        nonlocal clip
        clip = clip or RegionText(spec, device=device)
        found = segment_concept(
            by_name[name],
            segmenter=built_segmenter,
            captioner=built_captioner,
            clip=clip,
            choose=dict(segmenter.choose),
            over_segmentation=dict(segmenter.over_segmentation),
            naming=dict(captioner.naming),
            fallback=segmenter.fallback,
            max_side=segmenter.max_side,
        )
        lines = [
            line
            for number, one in enumerate(found)
            for line in _write_segmented(out, by_name[name], number, one)
        ]
        write_jsonl(out / "done" / f"{name}.jsonl", lines)

    def done(name: str) -> bool:
        return (out / "done" / f"{name}.jsonl").is_file()

    share(out, by_name, done=done, work=work, description="segmenting concepts")
    if not finalize:
        return
    lines = [line for name in by_name for line in read_jsonl(out / "done" / f"{name}.jsonl")]
    write_jsonl(out / "segments.jsonl", lines)
    forget(out)
    shutil.rmtree(out / "done", ignore_errors=True)
    log.info(
        "%d images cut out, %d of %d parts named",
        sum(line["kind"] == "whole" for line in lines),
        sum(line["part"] is not None for line in lines),
        sum(line["kind"] == "part" for line in lines),
    )


def generate_contexts(
    out: Path,
    *,
    spec: BaseModels,
    settings: ContextSettings,
    segmenter: SegmenterSettings,
    device: str = "cpu",
    finalize: bool = True,
) -> None:
    """Sample general concepts from the base model, cut out and screen them (CLIF, section 4.1).

    Writes `contexts.jsonl` (one line per image: name, kind whole|part|background, cutout,
    cutout_size, seed, prompt, similarity, kept, reason), `images/` and `cutouts/`. Figures in
    backgrounds are painted over.

    Args:
        out: folder to fill; images sampled by an earlier, killed run are kept.
        spec: base models.
        settings: what to sample, and what a cut-out must fulfil.
        segmenter: what finds masks, and which of them is the thing.
        device: where models run.
        finalize: False contributes images to a folder that another process completes.

    Raises:
        ValueError: not a single general concept passed the screen.
    """
    from clif_exp.curation import contexts
    from clif_exp.curation.backgrounds import empty_backgrounds

    candidates = contexts.list_candidates(
        names=settings.names,
        part_names=settings.part_names,
        backgrounds=settings.backgrounds,
        images_per_name=settings.images_per_name,
        oversampling=settings.oversampling,
        template=settings.template,
        background_template=settings.background_template,
        seed=settings.seed,
    )
    if finalize:
        out.mkdir(parents=True, exist_ok=True)
    contexts.sample(
        out,
        candidates,
        spec=spec,
        device=device,
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        batch_size=settings.batch_size,
    )
    lines = contexts.cut_and_screen(
        out, candidates, spec=spec, segmenter=segmenter, device=device, screen=settings.screen
    )
    if not finalize:
        return
    contexts.keep_best_of_each(
        lines, wanted=settings.images_per_name, keep_best=settings.screen.keep_best
    )
    empty_backgrounds(
        out,
        lines,
        names=[*settings.names, *settings.part_names],
        spec=spec,
        segmenter=segmenter,
        device=device,
        keep_best=settings.screen.keep_best,
    )
    _check_kept(lines, kind="background", names=settings.backgrounds)
    _check_kept(lines, kind="whole", names=settings.names)
    _check_kept(lines, kind="part", names=settings.part_names)
    write_jsonl(out / "contexts.jsonl", lines)
    forget(out)
    shutil.rmtree(out / contexts.SCREENED, ignore_errors=True)


def compose_pairs(
    out: Path,
    *,
    kind: Kind,
    segments: Path,
    contexts: Path | None,
    settings: PairSettings,
    seed: int,
    num_workers: int = 1,
    finalize: bool = True,
) -> None:
    """Compose the augmented images of one kind (CLIF, section 4.1 and Fig. 4).

    Writes `manifest.jsonl`, `images/` (RGB PNG) and `masks/` (grey PNG, what is visible of each
    source).

    Args:
        out: folder to fill; images drawn by an earlier, killed run are kept.
        kind: G (concept + general concept), R (concept's part + general part), M (concepts).
        segments: artifact of `segment_concepts`.
        contexts: artifact of `generate_contexts`; M on white needs none.
        settings: how many pairs, and their layout.
        seed: of all random choices, together with kind and index.
        num_workers: processes; the bytes are the same for any number.
        finalize: False contributes images to a folder that another process completes.

    Raises:
        ValueError: there is nothing to place.
    """
    from clif_exp.curation.composing import Job, compose_all
    from clif_exp.curation.manifest import read_library

    library = read_library(segments, contexts)
    if settings.num_pairs:
        _check_library(kind, library, settings=settings)
    roots = {"segments": segments, "contexts": segments if contexts is None else contexts}
    job = Job(kind=kind, seed=seed, library=library, settings=settings, roots=roots, out=out)
    if finalize:
        out.mkdir(parents=True, exist_ok=True)
    lines = track(
        compose_all(job, num_workers=num_workers),
        f"composing {kind} pairs",
        total=settings.num_pairs,
    )
    if not finalize:
        deque(lines, maxlen=0)
        return
    write_jsonl(out / "manifest.jsonl", lines)
    forget(out)


def _check_kept(lines: list[dict[str, Any]], *, kind: str, names: list[str]) -> None:
    """Refuse a kind of which nothing passed the screen; warn of single names without an image."""
    own = [line for line in lines if line["kind"] == kind]
    kept = {line["name"] for line in own if line["kept"]}
    if names and not kept:
        reasons = Counter(line["reason"].split(" (")[0] for line in own)
        raise ValueError(
            f"augmentation.contexts: none of {len(names)} {kind} names gave a usable image"
            f" ({reasons.most_common(3)}). Choose names the base model can draw, loosen"
            " augmentation.contexts.screen, or set its keep_best=true."
        )
    for name in [name for name in names if name not in kept]:
        log.warning("general concept '%s': no image passed the screen; it is left out", name)


def _write_segmented(out: Path, concept: Concept, number: int, found: Any) -> list[dict[str, Any]]:
    """Write one image's masks and cut-outs; the lines for segments.jsonl, the whole first."""
    lines = []
    regions: list[tuple[str, str | None, np.ndarray, float, float | None]] = [
        ("whole", None, found.whole_HW, found.score, None)
    ]
    regions += [
        ("part", part.name, part.mask_HW, part.score, part.similarity) for part in found.parts
    ]
    for index, (kind, part, mask, score, similarity) in enumerate(regions):
        stem = f"{concept.name}_{number:02d}" + (f"_part_{index:02d}" if kind == "part" else "")
        cutout, _ = cut_out(found.image, mask)
        given = concept.images[number].mask if kind == "whole" and found.how == "mask" else None
        # In the photograph's own size; a user's mask as it is.
        mask = resized(mask, found.size) if given is None else load_mask(given)
        write_mask(out / "masks" / f"{stem}.png", mask)
        write_png(out / "cutouts" / f"{stem}.png", cutout)
        lines.append(
            {
                "concept": concept.name,
                "image": number,
                "file": concept.images[number].file.name,
                "kind": kind,
                "part": part,
                "mask": f"masks/{stem}.png",
                "cutout": f"cutouts/{stem}.png",
                "cutout_size": list(cutout.size),
                "box": list(mask_box(mask)),
                "area": round(float(mask.mean()), 5),
                "score": round(score, 4),
                "similarity": None if similarity is None else round(similarity, 4),
                "how": found.how,
                "measures": dict(found.measures) if kind == "whole" else {},
            }
        )
    return lines


def _check_library(kind: Kind, library: Library, *, settings: PairSettings) -> None:
    """Refuse to compose a kind for which there is nothing to place."""
    field = FIELDS[kind]
    off = f"Or leave it out with augmentation.{field}.num_pairs=0."
    if kind == "G" and not library.contexts:
        raise ValueError(
            f"augmentation.{field}: there are no general concepts. Give"
            f" augmentation.contexts.names. {off}"
        )
    if kind == "R" and not library.parts:
        raise ValueError(
            f"augmentation.{field}: no part of any concept has a name. "
            f"List parts in concepts.yaml, or lower captioner.naming.threshold. {off}"
        )
    if kind == "R" and not library.context_parts:
        raise ValueError(
            f"augmentation.{field}: there are no general parts. Give"
            f" augmentation.contexts.part_names. {off}"
        )
    if kind == "M" and len(library.wholes) < 2:
        raise ValueError(
            f"augmentation.{field}: mixing needs two concepts, found {len(library.wholes)}. {off}"
        )
    if isinstance(settings, MixSettings):
        wanted = max(count for count, weight in settings.figures.items() if weight)
        if not can_stand_together(list(library.wholes), wanted):
            raise ValueError(
                f"augmentation.{field}.figures: {wanted} figures, but among {len(library.wholes)}"
                " concepts there are not so many of which M-Aug shows every pair; three need five"
                f" concepts. Leave {wanted} out. {off}"
            )
    if settings.background_share and not library.backgrounds:
        raise ValueError(
            f"augmentation.{field}.background_share: found {settings.background_share}, but there"
            " are no backgrounds. Give augmentation.contexts.backgrounds."
        )
