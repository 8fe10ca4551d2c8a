"""Stage 2's images: single concepts and M pairs, encoded once, mixed by weight, batch by batch
from (seed, step).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from clif_exp.training.steps import step_generator

SINGLE, PAIR, PRIOR = "single", "pair", "prior"


@dataclass(frozen=True)
class TrainingImage:
    """One image of stage 2.

    Args:
        file: the image.
        kind: single, pair or prior.
        subject: concept of a single, class word of a prior image; balances what is drawn. Pairs:
            "".
        captions: captions that are true of it; one is drawn each time.
        masks: where its concepts are (white), joined; empty: everywhere.
    """

    file: Path
    kind: str
    subject: str
    captions: tuple[str, ...]
    masks: tuple[Path, ...] = ()


def single_images(
    concepts, *, templates: Sequence[str], masks: Mapping[tuple[str, int], Path] | None = None
) -> list[TrainingImage]:
    """List the reference images of a concept set, captioned from templates unless the user gave
    captions.
    """
    images = []
    for concept in concepts.concepts:
        named = f"<{concept.name}>"
        for number, image in enumerate(concept.images):
            captions = (
                (image.caption,)
                if image.caption and named in image.caption
                else tuple(t.format(named) for t in templates)
            )
            mask = image.mask or (masks or {}).get((concept.name, number))
            images.append(
                TrainingImage(
                    Path(image.file), SINGLE, concept.name, captions, (Path(mask),) if mask else ()
                )
            )
    return images


def pair_images(manifest: Path, *, names: set[str]) -> list[TrainingImage]:
    """List the M pairs that curation published.

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


def load_pixels(file: Path, *, resolution: int) -> Tensor:
    """Read an image, fitted to a square by its shorter side and a centre crop: float32 [3, R, R]
    in [-1, 1].
    """
    from clif_exp.concepts.images import load_rgb

    image = ImageOps.fit(load_rgb(file), (resolution, resolution), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1.0


def load_weights(
    masks: Sequence[Path], *, resolution: int, latent_size: tuple[int, int], background: float
) -> Tensor:
    """Return loss weights on the latent grid: 1 on the concepts, `background` elsewhere, mean 1;
    float32 [1, h, w].
    """
    if not masks:
        return torch.ones(1, *latent_size)
    joined = np.zeros((resolution, resolution), np.float32)
    for file in masks:
        with Image.open(file) as image:
            fitted = ImageOps.fit(
                image.convert("L"), (resolution, resolution), Image.Resampling.BILINEAR
            )
        joined = np.maximum(joined, np.asarray(fitted, np.float32) / 255.0)
    weights = F.interpolate(torch.from_numpy(joined)[None, None], size=latent_size, mode="area")[0]
    weights = background + (1 - background) * weights
    return weights / weights.mean().clamp(min=1e-3)


@torch.no_grad()
def encode_training_images(
    vae, images: Sequence[TrainingImage], *, resolution: int, flip: bool
) -> Tensor:
    """Encode all images once: latents float32 [N, C, h, w]; with `flip` [2 N, C, h, w], the
    mirrored ones last.
    """
    from clif_exp.base_models.loading import encode_images

    # An autoencoder needs most memory at full resolution: about as many pixels at a time as one
    # image of SDXL has.
    batch_size = max(1, min(8, 1024**2 // resolution**2))
    latents = []
    for mirrored in (False, True) if flip else (False,):
        for start in range(0, len(images), batch_size):
            pixels = torch.stack(
                [
                    load_pixels(p.file, resolution=resolution)
                    for p in images[start : start + batch_size]
                ]
            )
            latents.append(
                encode_images(vae, pixels.flip(-1) if mirrored else pixels).float().cpu()
            )
    return torch.cat(latents)


@dataclass(frozen=True)
class Mixture:
    """What a batch is made of.

    Args:
        batch_size: images per step over all ranks.
        pair_share: share of M pairs, in [0, 1].
        prior_share: share of prior images, in [0, 1].
        caption_dropout: share of captions replaced by the empty one.
        flip: mirror single images at random (never pairs: their captions name sides).
        seed: of everything random.
    """

    batch_size: int
    pair_share: float
    prior_share: float = 0.0
    caption_dropout: float = 0.0
    flip: bool = False
    seed: int = 0


@dataclass
class MixedBatches:
    """Makes the batch of a step, a pure function of (seed, step).

    Args:
        images: all images.
        latents_NCHW: their latents; twice as many with flips.
        weights_N1HW: loss weights, or None.
        mixture: see there.
        num_timesteps: of the noise schedule.
        captions: all distinct captions; index 0 is the empty one.
        offset_noise: strength of a per-channel noise offset.
        timestep_bias: timesteps are drawn by 1 - u ** timestep_bias, u uniform: 1 draws all alike, more
            draws noisy ones more often.
        shares: equal shares that a batch is split into: over ranks, and into parts that are
            computed one after the other.
    """

    images: Sequence[TrainingImage]
    latents_NCHW: Tensor
    weights_N1HW: Tensor | None
    mixture: Mixture
    num_timesteps: int
    captions: Sequence[str]
    offset_noise: float = 0.0
    timestep_bias: float = 1.0
    shares: int = 1
    _by_subject: dict[str, list[list[int]]] = field(init=False)

    def __post_init__(self) -> None:
        subjects: dict[tuple[str, str], list[int]] = {}
        for index, image in enumerate(self.images):
            subjects.setdefault((image.kind, image.subject), []).append(index)
        self._by_subject = {
            kind: [m for (k, _), m in subjects.items() if k == kind]
            for kind in (SINGLE, PAIR, PRIOR)
        }
        self._caption_index = {caption: index for index, caption in enumerate(self.captions)}
        self.size = self.mixture.batch_size // self.shares * self.shares
        if self.size == 0:
            needed = (
                f"{self.shares} shares (ranks x diffusion.accumulate) need one image each at least"
            )
            raise ValueError(f"diffusion.batch_size: found {self.mixture.batch_size}; {needed}.")

    def __call__(self, step: int) -> dict[str, Any]:
        generator = step_generator(self.mixture.seed, step, stream=2)
        chosen, captions, rows = [], [], []
        for kind in self._kinds(generator):
            index = self._draw_image(kind, generator)
            options = self.images[index].captions
            caption = options[_below(len(options), generator)]
            dropped = _uniform(generator) < self.mixture.caption_dropout
            mirrored = self.mixture.flip and kind == SINGLE and _uniform(generator) < 0.5
            chosen.append(index)
            captions.append("" if dropped else caption)
            rows.append(index + len(self.images) if mirrored else index)
        latents = self.latents_NCHW[rows]
        noise = torch.randn(latents.shape, generator=generator)
        if self.offset_noise:
            noise = noise + self.offset_noise * torch.randn(
                (*latents.shape[:2], 1, 1), generator=generator
            )
        batch = {
            "step": step,
            "latents": latents,
            "noise": noise,
            "timesteps": self._timesteps(generator),
            "caption_indices": torch.tensor([self._caption_index[caption] for caption in captions]),
            "captions": captions,
        }
        if self.weights_N1HW is not None:
            weights = self.weights_N1HW[chosen]
            mirrored_rows = torch.tensor([row >= len(self.images) for row in rows])
            batch["weights"] = torch.where(
                mirrored_rows[:, None, None, None], weights.flip(-1), weights
            )
        return batch

    def _timesteps(self, generator: torch.Generator) -> Tensor:
        """Spread a batch evenly over the schedule: its loss says more about the weights, and less
        about the luck of the draw.
        """
        even = (torch.arange(self.size) + torch.rand(self.size, generator=generator)) / self.size
        timesteps = (
            ((1 - (1 - even) ** self.timestep_bias) * self.num_timesteps)
            .long()
            .clamp(max=self.num_timesteps - 1)
        )
        return timesteps[torch.randperm(self.size, generator=generator)]

    def _kinds(self, generator: torch.Generator) -> list[str]:
        """Split a batch by the weights; what is left after whole images is drawn, so the long-run
        shares are exact.
        """
        shares = {PAIR: self.mixture.pair_share, PRIOR: self.mixture.prior_share}
        kinds: list[str] = []
        for kind, share in shares.items():
            exact = share * self.size if self._by_subject[kind] else 0.0
            count = int(exact) + int(_uniform(generator) < exact - int(exact))
            kinds += [kind] * min(count, self.size - len(kinds))
        kinds += [SINGLE] * (self.size - len(kinds))
        # Ranks take slices of the batch: shuffled, each gets its share of every kind.
        return [kinds[i] for i in torch.randperm(self.size, generator=generator).tolist()]

    def _draw_image(self, kind: str, generator: torch.Generator) -> int:
        subjects = self._by_subject[kind]
        members = subjects[_below(len(subjects), generator)]
        return members[_below(len(members), generator)]


def _below(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (1,), generator=generator))


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand(1, generator=generator))
