"""Stage 2's images: reference images, M pairs and prior images, with captions and masks."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clif_exp.artifacts.files import read_jsonl
from clif_exp.concepts.images import load_grey_mask, load_rgb
from clif_exp.diffusion.framing import WHOLE, Frame, Key, Segment, frame_of, read_segments
from clif_exp.diffusion.scales import Placement, draw_placement
from clif_exp.prompts.evaluation import TRAINING_TEMPLATES

if TYPE_CHECKING:
    from clif_exp.concepts.concept import ConceptSet

SINGLE, PAIR, PRIOR = "single", "pair", "prior"
COUNTERPARTS = "counterparts"  # of the prior images' subjects: `counterparts`


@dataclass(frozen=True)
class TrainingImage:
    """One image of stage 2.

    Attributes:
        file: the image.
        kind: SINGLE, PAIR or PRIOR.
        subject: concept of a single, COUNTERPARTS or "" for others; subjects of a kind are drawn
            equally often.
        captions: captions that are true of it; one is drawn each time.
        masks: where its concepts are (white), joined; empty: everywhere.
        placement: the image at another scale; None: as it is.
        frame: what of a photograph is shown.
    """

    file: Path
    kind: str
    subject: str
    captions: tuple[str, ...]
    masks: tuple[Path, ...] = ()
    placement: Placement | None = None
    frame: Frame = WHOLE


def training_images(
    concepts: ConceptSet,
    *,
    manifest: Path | None,
    segments: Path | None,
    prior: Sequence[Path],
) -> list[TrainingImage]:
    """List everything that stage 2 trains on.

    Args:
        concepts: whose reference images.
        manifest: folder of the M pairs, or None.
        segments: folder of curation's segments, for masks that the user did not give, and for
            where marked concepts are; or None.
        prior: folders of prior images.
    """
    images = single_images(concepts, segments=read_segments(segments) if segments else {})
    if manifest is not None:
        images += pair_images(manifest, names={concept.name for concept in concepts.concepts})
    for folder in prior:
        images += [
            TrainingImage(folder / line["file"], PRIOR, "", (line["prompt"],))
            for line in read_jsonl(folder / "generations.jsonl")
        ]
    return images


def single_images(concepts: ConceptSet, *, segments: Mapping[Key, Segment]) -> list[TrainingImage]:
    """List a concept set's images, captioned from templates where they have no caption.

    Args:
        concepts: the set.
        segments: (concept, number of its image) -> what curation has found.
    """
    images = []
    for concept in concepts.concepts:
        named = f"<{concept.name}>"
        for number, image in enumerate(concept.images):
            captions = tuple(template.format(named) for template in TRAINING_TEMPLATES)
            if image.caption:
                assert named in image.caption, "captions name their concept once a set is read"
                captions = (image.caption,)
            segment = segments.get((concept.name, number))
            mask = image.mask or (segment.mask if segment else None)
            images.append(
                TrainingImage(
                    Path(image.file),
                    SINGLE,
                    concept.name,
                    captions,
                    (Path(mask),) if mask else (),
                    frame=frame_of(image, segment),
                )
            )
    return images


def at_scales(images: Sequence[TrainingImage], *, variants: int, seed: int) -> list[TrainingImage]:
    """Put variants at other scales in the place of every single image.

    Args:
        images: of all kinds; the others stay.
        variants: of each single image.
        seed: of scales, places and captions.
    """
    scaled = []
    for number, image in enumerate(images):
        if image.kind != SINGLE:
            scaled.append(image)
            continue
        for variant in range(variants):
            rng = random.Random(f"scale:{seed}:{number}:{variant}")
            placement = draw_placement(rng)
            captions = tuple(placement.caption(caption, rng) for caption in image.captions)
            scaled.append(replace(image, captions=captions, placement=placement))
    return scaled


def pair_images(manifest: Path, *, names: set[str]) -> list[TrainingImage]:
    """List the M pairs that curation published.

    Args:
        manifest: folder of manifest.jsonl.
        names: of all concepts.

    Raises:
        ValueError: the manifest is missing or names an unknown concept.
    """
    file = Path(manifest) / "manifest.jsonl"
    if not file.is_file():
        raise ValueError(
            f"{file}: no such file. Curation publishes it; run the stage 'curation' first."
        )
    images = []
    for number, text in enumerate(file.read_text().splitlines(), start=1):
        if not text.strip():
            continue
        line = json.loads(text)
        unknown = {s["concept"] for s in line["sources"] if s.get("concept")} - names
        if unknown:
            raise ValueError(
                f"{file}:{number}: concept {sorted(unknown)[0]!r} is not in the concept set."
            )
        masks = tuple(Path(manifest) / s["mask"] for s in line["sources"] if s.get("mask"))
        images.append(
            TrainingImage(Path(manifest) / line["file"], PAIR, "", (line["caption"],), masks)
        )
    return images


def load_pixels(image: TrainingImage, *, resolution: int) -> Tensor:
    """Read an image, scaled and cropped to a square: float32 [3, R, R] in [-1, 1]."""
    shown = image.frame.show(load_rgb(image.file))
    square = image.frame.square(shown, resolution, resampling=Image.Resampling.LANCZOS)
    if image.placement is not None:
        square = image.placement.apply(square)
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1).float() / 127.5 - 1.0


def load_mask(image: TrainingImage, *, resolution: int, latent_size: tuple[int, int]) -> Tensor:
    """Return where an image's concepts are on the latent grid, float32 [1, h, w] in [0, 1].

    Args:
        image: without masks: everywhere.
        resolution: side of the image in px.
        latent_size: (h, w).
    """
    if not image.masks:
        return torch.ones(1, *latent_size)
    joined = np.zeros((resolution, resolution), np.float32)
    for file in image.masks:
        mask = load_grey_mask(file)
        fitted = image.frame.square(mask, resolution, resampling=Image.Resampling.BILINEAR)
        if image.placement is not None:
            fitted = image.placement.apply(fitted, fill=0)
        joined = np.maximum(joined, np.asarray(fitted, np.float32) / 255.0)
    return F.interpolate(torch.from_numpy(joined)[None, None], size=latent_size, mode="area")[0]


def load_weights(
    image: TrainingImage,
    *,
    resolution: int,
    latent_size: tuple[int, int],
    background: float | None,
) -> Tensor:
    """Return an image's loss weights on the latent grid, float32 [1, h, w], mean 1.

    Outside of an image at another scale nothing counts.

    Args:
        image: with its masks and placement.
        resolution: side of the image in px.
        latent_size: (h, w).
        background: weight outside of the masks, relative to 1 inside; None: masks weigh nothing.
    """
    weights = torch.ones(1, *latent_size)
    if background is not None:
        inside = load_mask(image, resolution=resolution, latent_size=latent_size)
        weights = background + (1 - background) * inside
    if image.placement is not None:
        weights = weights * image.placement.visible(resolution, latent_size)
    return weights / weights.mean().clamp(min=1e-3)


@torch.no_grad()
def encode_training_images(
    vae: Any, images: Sequence[TrainingImage], *, resolution: int, flip: bool
) -> Tensor:
    """Encode all images in fp32, those of one file once: latents float32 [N, C, h, w].

    Args:
        vae: of a pipeline; keeps its dtype.
        images: N.
        resolution: side of the images in px.
        flip: append the mirrored images: [2 N, C, h, w].
    """
    from clif_exp.base_models.loading import encode_images

    # SDXL's autoencoder overflows in fp16, and bf16 latents would lose detail.
    stored = vae.dtype
    if stored != torch.float32:
        vae.to(torch.float32)
    # An autoencoder needs most memory at full resolution: at a time about as many pixels as one
    # image of SDXL has.
    batch_size = max(1, min(8, 1024**2 // resolution**2))
    shown = [(image.file, image.frame, image.placement) for image in images]
    rows = {key: row for row, key in enumerate(dict.fromkeys(shown))}
    distinct = list(dict(zip(shown, images, strict=True)).values())
    latents = []
    for mirrored in (False, True) if flip else (False,):
        encoded = []
        for start in range(0, len(distinct), batch_size):
            batch = distinct[start : start + batch_size]
            pixels = torch.stack([load_pixels(image, resolution=resolution) for image in batch])
            encoded.append(
                encode_images(vae, pixels.flip(-1) if mirrored else pixels).float().cpu()
            )
        latents.append(torch.cat(encoded)[[rows[key] for key in shown]])
    if stored != torch.float32:
        vae.to(stored)
    return torch.cat(latents)


def loss_weights(
    images: Sequence[TrainingImage],
    *,
    resolution: int,
    latent_size: tuple[int, int],
    background: float | None,
) -> Tensor | None:
    """Return the loss weights of all images (`load_weights`), float32 [N, 1, h, w].

    None without a background's weight, if no image has a placement: then all count alike.
    """
    if background is None and all(image.placement is None for image in images):
        return None
    size: dict[str, Any] = {"resolution": resolution, "latent_size": latent_size}
    return torch.stack([load_weights(image, background=background, **size) for image in images])


def concept_masks(
    images: Sequence[TrainingImage], *, resolution: int, latent_size: tuple[int, int]
) -> Tensor:
    """Return where the concepts are in all images (`load_mask`), float32 [N, 1, h, w]."""
    return torch.stack(
        [load_mask(image, resolution=resolution, latent_size=latent_size) for image in images]
    )
