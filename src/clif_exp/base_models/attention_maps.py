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
        recording: False lets a pass go by unrecorded.
    """

    by_size: dict[int, list[Tensor]] = field(default_factory=dict)
    recording: bool = True

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
        unet: UNet2DConditionModel, also with a LoRA. Its own attention processors go on computing
            what it returns, to the bit; they are put back afterwards.
    """
    maps, own = CrossAttentionMaps(), dict(unet.attn_processors)
    recording = {
        name: _Recording(processor, maps) if name.endswith("attn2.processor") else processor
        for name, processor in own.items()
    }
    unet.set_attn_processor(recording)
    try:
        yield maps
    finally:
        unet.set_attn_processor(own)


class _Recording:
    """An attention processor of diffusers that records a layer's map beside its own processor.

    Fast processors never have the map at hand, and one that has it rounds differently: so it is
    computed once more, which costs little beside self-attention.
    """

    def __init__(self, own: Any, maps: CrossAttentionMaps) -> None:
        self.own, self.maps = own, maps

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Any:
        if self.maps.recording:
            assert encoder_hidden_states is not None, "cross-attention reads a text"
            query = attn.head_to_batch_dim(attn.to_q(hidden_states))
            key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
            mask = attn.prepare_attention_mask(attention_mask, key.shape[1], len(hidden_states))
            self.maps.add(attn.get_attention_scores(query, key, mask), heads=attn.heads)
        return self.own(
            attn,
            hidden_states,
            encoder_hidden_states=encoder_hidden_states,
            attention_mask=attention_mask,
        )
