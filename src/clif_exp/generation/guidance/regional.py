"""Regional conditioning: in its part of the image, cross-attention reads its concept only.

Mix-of-Show (Gu et al. 2023, regionally controllable sampling) reads a prompt of its own in each
region; a user draws the regions and writes their prompts. Here the parts are strips of equal width,
from left to right as the sentence puts or names the concepts, and a strip's text is the whole
prompt with its own concept in the place of every other one: "<rick> hugging <rick>". What is done,
where, and by how many stays the prompt's, as do words that describe somebody; no other concept's
token is read. (With "a photo of <rick>" in one strip and "a photo of <morty>" in the other, one
figure comes in the middle, half of it each.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from clif_exp.base_models.layerwise import cross_attention_layers
from clif_exp.prompts.sentences import by_region


@dataclass(frozen=True)
class Strips:
    """The strips of a batch's prompts, one after another.

    Attributes:
        prompts: how many there are.
        texts: what each strip reads, with placeholders.
        rows: the prompt that it belongs to, ascending.
        places: its number from the left, and how many its prompt has.
    """

    prompts: int
    texts: list[str]
    rows: list[int]
    places: list[tuple[int, int]]


def strips_of(prompts: Sequence[str]) -> Strips:
    """Divide the images among the concepts that prompts put side by side.

    Args:
        prompts: with placeholders; those of one concept, and those that do not put theirs side by
            side (`by_region`), get no strips.
    """
    strips = Strips(len(prompts), [], [], [])
    for row, prompt in enumerate(prompts):
        texts = by_region(prompt)
        for place, text in enumerate(texts):
            strips.texts.append(text)
            strips.rows.append(row)
            strips.places.append((place, len(texts)))
    return strips


def shares(place: int, count: int, *, side: int) -> Tensor:
    """Return which part of each column of an attention map a strip has, float32 [side].

    Args:
        place: of the strip, from the left.
        count: how many strips there are; together they cover each column once.
        side: columns.
    """
    left, right = place * side / count, (place + 1) * side / count
    columns = torch.arange(side, dtype=torch.float32)
    return ((columns + 1).clamp(max=right) - columns.clamp(min=left)).clamp(min=0)


@contextmanager
def regional(unet: Any, *, text_SLD: Tensor, strips: Strips, weight: float) -> Iterator[None]:
    """Let every strip read its own text, inside, in all cross-attention layers.

    Args:
        unet: UNet2DConditionModel, as a stock pipeline calls it for all prompts: with
            classifier-free guidance first for the empty ones. Its latents are square.
        text_SLD: `encoder_hidden_states` of the strips' texts.
        strips: at least one.
        weight: of a strip's own text; the rest is the whole prompt's.
    """
    inside = False
    rows_S = torch.tensor(strips.rows, device=text_SLD.device)

    @cache
    def shares_of(side: int) -> Tensor:
        columns_SW = torch.stack(
            [shares(place, count, side=side) for place, count in strips.places]
        )
        return weight * columns_SW.repeat(1, side)[..., None].to(text_SLD.device)

    def read_own(
        layer: Any, given: tuple[Any, ...], _named: dict[str, Any], whole_NQD: Tensor
    ) -> Tensor | None:
        nonlocal inside
        if inside:
            return None
        inside = True
        try:
            hidden_NQD = given[0]
            side = round(hidden_NQD.shape[1] ** 0.5)
            assert side * side == hidden_NQD.shape[1], hidden_NQD.shape
            # The empty prompts of classifier-free guidance, if there are any, come first.
            empty = len(hidden_NQD) - strips.prompts
            own_SQD = layer(
                hidden_NQD[empty:][rows_S], encoder_hidden_states=text_SLD.to(hidden_NQD.dtype)
            )
            mixed_BQD = _mixed(whole_NQD[empty:], own_SQD, shares_of(side), rows_S)
            return torch.cat([whole_NQD[:empty], mixed_BQD])
        finally:
            inside = False

    handles = [
        unet.get_submodule(name).register_forward_hook(read_own, with_kwargs=True)
        for name in cross_attention_layers(unet)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mixed(whole_BQD: Tensor, own_SQD: Tensor, share_SQ1: Tensor, rows_S: Tensor) -> Tensor:
    """Put what the strips read into what the whole prompts read."""
    share_SQ1 = share_SQ1.to(own_SQD.dtype)
    taken_BQ1 = torch.zeros_like(whole_BQD[..., :1]).index_add(0, rows_S, share_SQ1)
    return (whole_BQD * (1 - taken_BQ1)).index_add(0, rows_S, share_SQ1 * own_SQD)
