"""Stage 2's batches: images mixed by their shares, each batch a function of (seed, step)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from clif_exp.diffusion.images import PAIR, PRIOR, SINGLE, TrainingImage
from clif_exp.training.steps import step_generator

_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Mixture:
    """What a batch is composed of.

    Attributes:
        batch_size: images per step over all ranks.
        pair_share: share of M pairs, in [0, 1].
        prior_share: share of prior images, in [0, 1].
        caption_dropout: share of captions replaced by the empty one.
        flip: mirror single images at random (never pairs, nor where a caption names a side).
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

    Attributes:
        images: all images.
        latents_NCHW: their latents; twice as many with flips.
        weights_N1HW: loss weights, or None.
        mixture: how a batch is composed.
        num_timesteps: of the noise schedule.
        captions: all distinct captions; index 0 is the empty one.
        offset_noise: strength of a per-channel noise offset.
        timestep_bias: timesteps are drawn as 1 - u ** timestep_bias with u uniform: above 1, noisy
            ones are drawn more often.
        masks_N1HW: where the concepts are, or None.
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
    masks_N1HW: Tensor | None = None
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
        """Return a step's batch, all ranks' shares of it, on the CPU.

        Keys: `step`, `latents` and `noise` float32 [B, C, h, w], `timesteps` and `caption_indices`
        int64 [B], `captions` (strings), `prior` bool [B] (prior images), and `weights` float32
        [B, 1, h, w] where the loss has any, `masks` of the same shape where it reads them.
        """
        generator = step_generator(self.mixture.seed, step, stream=2)
        chosen, captions, rows = [], [], []
        for kind in self._kinds(generator):
            index = self._draw_image(kind, generator)
            options = self.images[index].captions
            caption = options[_below(len(options), generator)]
            dropped = _uniform(generator) < self.mixture.caption_dropout
            mirrored = self.mixture.flip and kind == SINGLE and _uniform(generator) < 0.5
            mirrored = mirrored and not _SIDES.search(caption)
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
            "prior": torch.tensor([self.images[index].kind == PRIOR for index in chosen]),
        }
        mirrored_rows = torch.tensor([row >= len(self.images) for row in rows])[:, None, None, None]
        for key, of_all in (("weights", self.weights_N1HW), ("masks", self.masks_N1HW)):
            if of_all is not None:
                own = of_all[chosen]
                batch[key] = torch.where(mirrored_rows, own.flip(-1), own)
        return batch

    def _timesteps(self, generator: torch.Generator) -> Tensor:
        """Spread a batch evenly over the schedule, which lowers the variance of its loss."""
        even = (torch.arange(self.size) + torch.rand(self.size, generator=generator)) / self.size
        timesteps = (
            ((1 - (1 - even) ** self.timestep_bias) * self.num_timesteps)
            .long()
            .clamp(max=self.num_timesteps - 1)
        )
        return timesteps[torch.randperm(self.size, generator=generator)]

    def _kinds(self, generator: torch.Generator) -> list[str]:
        """Split a batch by the shares; fractions are drawn, so shares are exact on average."""
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
