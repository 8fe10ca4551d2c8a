"""The stage functions of curation: segments, contexts and the three augmentations, each an artifact
of its own.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clif_exp.base_models.spec import BaseModels
from clif_exp.concepts.concept import Concept, ConceptSet
from clif_exp.concepts.images import mask_box
from clif_exp.concepts.pairs import seen_pairs
from clif_exp.curation.layout import FIELDS, Kind, Layout, read_layout
from clif_exp.curation.masks import cut_out, write_bytes, write_jsonl, write_mask, write_png
from clif_exp.curation.planning import Library

__all__ = ["compose_pairs", "generate_contexts", "seen_pairs", "segment_concepts"]

log = logging.getLogger(__name__)


def segment_concepts(
    out: Path,
    *,
    concepts: ConceptSet,
    spec: BaseModels,
    segmenter: Mapping[str, Any],
    captioner: Mapping[str, Any],
    device: str = "cpu",
    num_workers: int = 1,
    finalize: bool = True,
) -> None:
    """Cut every concept and its parts out of its images (CLIF, section 4.1).

    Writes `segments.jsonl` (one line per whole and part: concept, image, file, kind, part, mask,
    cutout, box in px, cutout_size, area, score, how), `masks/` (grey PNG in the image's size) and
    `cutouts/` (RGBA PNG of the box).

    Args:
        out: folder to fill; concepts finished by an earlier, killed run are kept.
        concepts: the checked set.
        spec: base models.
        segmenter: conf/segmenter: name, settings, choose, over_segmentation, fallback.
        captioner: conf/captioner: name, settings, naming.
        device: where SAM and CLIP run.
        num_workers: unused so far; results do not depend on it.
        finalize: False contributes concepts to a folder that another process completes.

    Raises:
        ValueError: nothing was found in an image; names it and what would do.
    """
    from clif_exp.artifacts.sharing import forget, share
    from clif_exp.curation.captioners import build_captioner
    from clif_exp.curation.segmenters.build import build_segmenter
    from clif_exp.curation.segmenting import segment_concept
    from clif_exp.curation.similarity import RegionText

    out = Path(out)
    for folder in ("masks", "cutouts", "done"):
        (out / folder).mkdir(parents=finalize, exist_ok=True)
    asker = build_captioner(captioner, device=device)
    finder = build_segmenter(segmenter, spec=spec, device=device)
    by_name = {concept.name: concept for concept in concepts.concepts}
    clip: RegionText | None = None

    def work(name: str) -> None:
        nonlocal clip
        clip = clip or RegionText(spec, device=device)
        found = segment_concept(
            by_name[name],
            segmenter=finder,
            captioner=asker,
            clip=clip,
            choose=segmenter.get("choose"),
            over_segmentation=segmenter.get("over_segmentation"),
            naming=captioner.get("naming"),
            fallback=bool(segmenter.get("fallback", True)),
        )
        lines = [
            line
            for number, one in enumerate(found)
            for line in _write_segmented(out, by_name[name], number, one)
        ]
        write_bytes(out / "done" / f"{name}.json", json.dumps(lines).encode())

    def done(name: str) -> bool:
        return (out / "done" / f"{name}.json").is_file()

    share(out, by_name, done=done, work=work, description="segmenting concepts")
    if not finalize:
        return
    lines = [
        line for name in by_name for line in json.loads((out / "done" / f"{name}.json").read_text())
    ]
    write_jsonl(out / "segments.jsonl", lines)
    forget(out)
    _remove_folder(out / "done")
    named = sum(line["part"] is not None for line in lines)
    log.info(
        "%d images cut out, %d of %d parts named",
        sum(x["kind"] == "whole" for x in lines),
        named,
        sum(x["kind"] == "part" for x in lines),
    )


def generate_contexts(
    out: Path,
    *,
    spec: BaseModels,
    names: Sequence[str],
    part_names: Sequence[str],
    images_per_name: int,
    seed: int,
    segmenter: Mapping[str, Any],
    num_inference_steps: int,
    guidance_scale: float,
    device: str = "cpu",
    batch_size: int = 16,
    oversampling: float = 1.5,
    template: str = "a photo of {name} on a white background",
    backgrounds: Sequence[str] = (),
    background_template: str = "a photo of an empty {name}",
    screen: Mapping[str, Any] | None = None,
    finalize: bool = True,
) -> None:
    """Let the base diffusion model draw general concepts, cut them out and keep those that pass the
    screen.

    Writes `contexts.jsonl` (one line per image: name, kind whole|part|background, cutout,
    cutout_size, seed, prompt, similarity, kept, reason), `images/` and `cutouts/`.

    Args:
        out: folder to fill; images sampled by an earlier, killed run are kept.
        spec: base models.
        names: general concepts, such as "policeman".
        part_names: general parts, such as "denim jacket".
        images_per_name: cut-outs to keep per name.
        seed: of sampling.
        segmenter: conf/segmenter.
        num_inference_steps: of the diffusion model.
        guidance_scale: of the diffusion model.
        device: where models run.
        batch_size: images sampled at once.
        oversampling: images sampled per cut-out to keep; the screen takes the best.
        template: prompt, with {name} (which brings its article).
        backgrounds: places, for canvas=generated; kept whole.
        background_template: their prompt, with {name}.
        screen: settings of `contexts.Screen`.
        finalize: False contributes images to a folder that another process completes.

    Raises:
        ValueError: not a single general concept passed the screen.
    """
    from clif_exp.artifacts.sharing import forget
    from clif_exp.curation import contexts

    out = Path(out)
    thresholds = contexts.as_settings(screen)
    candidates = contexts.list_candidates(
        names=names,
        part_names=part_names,
        backgrounds=backgrounds,
        images_per_name=images_per_name,
        oversampling=oversampling,
        template=template,
        background_template=background_template,
        seed=seed,
    )
    if finalize:
        out.mkdir(parents=True, exist_ok=True)
    sampler = {
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "batch_size": batch_size,
    }
    contexts.sample(out, candidates, spec=spec, device=device, **sampler)  # type: ignore[arg-type]
    lines = contexts.cut_and_screen(
        out, candidates, spec=spec, segmenter=segmenter, device=device, screen=thresholds
    )
    if not finalize:
        return
    contexts.keep_best_of_each(lines, wanted=images_per_name, keep_best=thresholds.keep_best)
    for kind, group in (("whole", names), ("part", part_names)):
        kept = Counter(line["name"] for line in lines if line["kept"] and line["kind"] == kind)
        if group and not kept:
            reasons = Counter(
                line["reason"].split(" (")[0] for line in lines if line["kind"] == kind
            )
            raise ValueError(
                f"augmentation.contexts: none of {len(group)} {kind} names gave a usable image"
                f" ({reasons.most_common(3)}). Choose names the base model can draw, loosen"
                " augmentation.contexts.screen, or set its keep_best=true."
            )
        for name in [name for name in group if not kept[name]]:
            log.warning("general concept '%s': no image passed the screen; it is left out", name)
    write_jsonl(out / "contexts.jsonl", lines)
    forget(out)
    _remove_folder(out / contexts.SCREENED)


def compose_pairs(
    out: Path,
    *,
    kind: Kind,
    segments: Path,
    contexts: Path | None,
    settings: Mapping[str, Any],
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
        settings: `num_pairs` and the fields of `planning.Layout`.
        seed: of all random choices, together with kind and index.
        num_workers: processes; the bytes are the same for any number.
        finalize: False contributes images to a folder that another process completes.

    Raises:
        ValueError: an unknown or unfit setting, or nothing to place.
    """
    from clif_exp.artifacts.progress import track
    from clif_exp.artifacts.sharing import forget
    from clif_exp.curation.composing import Job, compose_all
    from clif_exp.curation.manifest import read_library

    num_pairs, layout = read_layout(kind, settings)
    library = read_library(Path(segments), Path(contexts) if contexts is not None else None)
    if num_pairs:
        _check_library(kind, library, layout)
    roots = {
        "segments": Path(segments),
        "contexts": Path(contexts) if contexts is not None else Path(segments),
    }
    job = Job(kind=kind, seed=seed, library=library, layout=layout, roots=roots, out=Path(out))
    if finalize:
        Path(out).mkdir(parents=True, exist_ok=True)
    lines = track(
        compose_all(job, num_pairs=num_pairs, num_workers=num_workers),
        f"composing {kind} pairs",
        total=num_pairs,
    )
    if not finalize:
        deque(lines, maxlen=0)
        return
    write_jsonl(Path(out) / "manifest.jsonl", lines)
    forget(Path(out))


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


def _remove_folder(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _check_library(kind: Kind, library: Library, layout: Layout) -> None:
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
    if layout.canvas == "generated" and not library.backgrounds:
        raise ValueError(
            f"augmentation.{field}.canvas: generated, but there are no backgrounds. Give"
            " augmentation.contexts.backgrounds."
        )
