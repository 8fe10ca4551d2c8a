"""Cross-attention maps of a stock U-Net, without a change to what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

_SMALLEST = 8  # px: a coarser map does not say where a figure is


@dataclass
class CrossAttentionMaps:
    """Attention of image positions to text tokens, one map per layer, averaged over heads.

    Attributes:
        by_size: side of the map in positions -> the layers' maps, float32 [B, side, side, K], in
            the order of the U-Net's layers.
    """

    by_size: dict[int, list[Tensor]] = field(default_factory=dict)

    def add(self, scores_NQK: Tensor, *, heads: int) -> None:
        """Take a layer's attention, [B x heads, side^2, K]."""
        positions, tokens = scores_NQK.shape[1:]
        side = round(positions**0.5)
        mean_BQK = scores_NQK.float().view(-1, heads, positions, tokens).mean(1)
        self.by_size.setdefault(side, []).append(mean_BQK.view(-1, side, side, tokens))

    def mean(self, side: int) -> Tensor:
        """Return the mean over the layers of one size, float32 [B, side, side, K]."""
        layers = self.by_size[side]
        return sum(layers[1:], layers[0]) / len(layers)

    def semantic_side(self, latent_side: int) -> int:
        """Return the size whose maps say best what is where.

        It is a quarter of the latents' (16 in SD 1.5 at 512 px, 32 in SDXL at 1,024 px), at least
        8; where a model has none, the next larger one, or its largest.
        """
        wanted = max(_SMALLEST, latent_side // 4)
        return min((side for side in self.by_size if side >= wanted), default=max(self.by_size))


@contextmanager
def recorded(unet: Any) -> Iterator[CrossAttentionMaps]:
    """Record the cross-attention of every pass inside; gradients flow through the maps.

    Args:
        unet: UNet2DConditionModel, also with a LoRA. Its attention processors are exchanged for
            diffusers' plain one, which has the maps at hand, and put back afterwards.
    """
    from diffusers.models.attention_processor import AttnProcessor

    before, maps = unet.attn_processors, CrossAttentionMaps()
    layers = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    unet.set_attn_processor(AttnProcessor())
    for layer in layers:
        layer.get_attention_scores = _recording(layer, maps)
    try:
        yield maps
    finally:
        for layer in layers:
            del layer.get_attention_scores
        unet.set_attn_processor(before)


def _recording(layer: Any, maps: CrossAttentionMaps) -> Any:
    stock = layer.get_attention_scores

    def scores(*args: Any, **kwargs: Any) -> Tensor:
        found: Tensor = stock(*args, **kwargs)
        maps.add(found, heads=layer.heads)
        return found

    return scores
