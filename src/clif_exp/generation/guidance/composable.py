"""Composable Diffusion (Liu et al. 2022): each concept is denoised on its own, and they are added.

The noise is e(empty) + sum_i w_i (e(c_i) - e(empty)); in a stock pipeline with classifier-free
guidance of scale g it becomes e(empty) + g sum_i w (e(c_i) - e(empty)).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def parts_of(concepts: Sequence[str], *, context: str | None) -> list[str]:
    """Return one prompt per concept: ``a photo of <rick> on the beach``.

    Args:
        concepts: their names.
        context: the place that the whole prompt names, or None.
    """
    return [f"a photo of <{name}> {context or ''}".strip() for name in concepts]


@contextmanager
def composed(
    unet: Any, *, arguments: Mapping[str, Any], rows: Sequence[int], weight: float
) -> Iterator[None]:
    """Exchange, inside, what a U-Net predicts for prompts by the sum over their parts.

    Args:
        unet: UNet2DConditionModel, as a stock pipeline with classifier-free guidance calls it:
            first the empty prompts, then the others.
        arguments: its keyword arguments for all parts, [P, ...].
        rows: the prompt that each part belongs to, ascending; prompts without parts stay as they
            are.
        weight: of each part.
    """
    inside = False

    def add_parts(_unet: Any, given: tuple[Any, ...], output: Any) -> Any:
        nonlocal inside
        if inside:
            return None
        inside = True
        try:
            noise_2BCHW: Tensor = output[0]
            latents_2BCHW, timestep = given[0], given[1]
            size = len(noise_2BCHW) // 2
            owners_P = torch.tensor(rows, device=noise_2BCHW.device)
            parts_PCHW = unet(
                latents_2BCHW[size:][owners_P], timestep, **arguments, return_dict=False
            )[0]
            empty_BCHW, whole_BCHW = noise_2BCHW.split(size)
            sums_BCHW = empty_BCHW.index_add(
                0, owners_P, (weight * (parts_PCHW - empty_BCHW[owners_P])).to(empty_BCHW.dtype)
            )
            has_parts_B = torch.zeros(size, dtype=torch.bool, device=owners_P.device)
            has_parts_B[owners_P] = True
            summed = torch.where(has_parts_B.view(-1, 1, 1, 1), sums_BCHW, whole_BCHW)
            return (torch.cat([empty_BCHW, summed]), *output[1:])
        finally:
            inside = False

    handle = unet.register_forward_hook(add_parts)
    try:
        yield
    finally:
        handle.remove()
