"""SAM's mask decoder for many points of one image, which computes what they share once.

Shape suffixes: P points, T tokens of a point (quality, four masks, the point and its padding), N
cells of the embedding, D its width, H heads, C width of a head, M masks of a point.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor


class PointDecoder:
    """The masks and qualities of `Sam.mask_decoder` (Kirillov et al. 2023, app. A), by less work.

    Until the first layer has written into the embedding, it is the same for all points and not
    repeated. After that a point has a copy of its own, 37 times as long as its list of tokens in a
    small SAM and 585 times in an official one. So nothing is projected on that side, and softmax
    over tokens runs across rows, where it vectorises. The quality needs the tokens
    only: masks of points that fail the threshold are never drawn.

    Args:
        model: a SAM in eval mode. Its weights are read here, once.
    """

    def __init__(self, model: Sam) -> None:
        import torch

        self.model, self.decoder = model, model.mask_decoder
        transformer = self.decoder.transformer
        with torch.no_grad():
            self.reads = [_Read(layer.cross_attn_token_to_image) for layer in transformer.layers]
            self.writes = [_Write(layer.cross_attn_image_to_token) for layer in transformer.layers]
            self.last_read = _Read(transformer.final_attn_token_to_image)

    def __call__(
        self, embedding_1Dhw: Tensor, *, points_P2: Tensor, min_quality: float
    ) -> tuple[Tensor, Tensor]:
        """Decode one foreground point each.

        Args:
            embedding_1Dhw: of one image, float [1, D, h, w].
            points_P2: x and y in px of the encoder's input, float [P, 2].
            min_quality: predicted IoU above which a mask is kept; 0 keeps all.

        Returns:
            Logits [n, 4h, 4w] and predicted IoUs [n] of the kept masks, in the order of points and
            outputs.
        """
        import torch

        encoder, decoder, height, width = (
            self.model.prompt_encoder,
            self.decoder,
            *embedding_1Dhw.shape[-2:],
        )
        labels = torch.ones(len(points_P2), 1, dtype=torch.int, device=points_P2.device)
        sparse, _ = encoder(points=(points_P2[:, None], labels), boxes=None, masks=None)
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens_PTD = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        keys_ND = (
            (embedding_1Dhw + encoder.no_mask_embed.weight[..., None, None])
            .flatten(2)[0]
            .T.contiguous()
        )
        positions_ND = encoder.get_dense_pe().flatten(2)[0].T.contiguous()
        queries_PTD, keys_PND = self._attend(tokens_PTD, keys_ND, positions_ND)

        masks = decoder.num_mask_tokens
        quality_PM = decoder.iou_prediction_head(queries_PTD[:, 0])[:, 1:]
        kept_PM = (
            quality_PM > min_quality
            if min_quality > 0
            else torch.ones_like(quality_PM, dtype=torch.bool)
        )
        drawn_P = kept_PM.any(dim=1)
        if not bool(drawn_P.any()):
            return queries_PTD.new_empty((0, 4 * height, 4 * width)), queries_PTD.new_empty(0)
        weights_PMK = torch.stack(
            [
                mlp(queries_PTD[drawn_P, 1 + i])
                for i, mlp in enumerate(decoder.output_hypernetworks_mlps)
                if i > 0
            ],
            dim=1,
        )
        assert weights_PMK.shape[1] == masks - 1
        chosen = keys_PND if bool(drawn_P.all()) else keys_PND[drawn_P]
        logits_PMhw = self._draw(chosen, weights_PMK, height, width)
        return logits_PMhw[kept_PM[drawn_P]], quality_PM[kept_PM]

    def _attend(
        self, tokens_PTD: Tensor, keys_ND: Tensor, positions_ND: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the two-way transformer: tokens [P, T, D] and each point's embedding [P, N, D]."""
        transformer = self.decoder.transformer
        queries, keys, placed = tokens_PTD, keys_ND, keys_ND + positions_ND
        for layer, read, write in zip(transformer.layers, self.reads, self.writes, strict=True):
            if layer.skip_first_layer_pe:
                queries = layer.self_attn(q=queries, k=queries, v=queries)
            else:
                q = queries + tokens_PTD
                queries = queries + layer.self_attn(q=q, k=q, v=queries)
            queries = layer.norm1(queries)
            queries = layer.norm2(queries + read(queries + tokens_PTD, placed, keys))
            queries = layer.norm3(queries + layer.mlp(queries))
            keys = layer.norm4(write(queries + tokens_PTD, queries, placed, keys))
            placed = keys + positions_ND
        queries = queries + self.last_read(queries + tokens_PTD, placed, keys)
        return transformer.norm_final_attn(queries), keys

    def _draw(self, keys_PND: Tensor, weights_PMK: Tensor, height: int, width: int) -> Tensor:
        """Upscale the embedding fourfold and weigh its channels: logits [P, M, 4h, 4w].

        Transposed convolutions with stride 2 and kernel 2 do not overlap: each is a matrix product
        per cell.
        """
        import torch
        import torch.nn.functional as F

        first, norm, act, second, act2 = self.decoder.output_upscaling
        x = act(
            F.layer_norm(
                _spread(first, keys_PND), norm.weight.shape, norm.weight, norm.bias, norm.eps
            )
        )
        x = act2(_spread(second, x))
        points, masks = weights_PMK.shape[:2]
        logits = weights_PMK @ x.reshape(points, -1, x.shape[-1]).transpose(1, 2)
        # h, w, then row and column of the first doubling and of the second. The last column pairs
        # lie side by side before and after: moved as one number of 64 bits they cost an eighth.
        pairs = (
            logits.float()
            .reshape(points, masks, height, width, 2, 2, 2, 2)
            .view(torch.complex64)[..., 0]
        )
        pairs = pairs.permute(0, 1, 2, 4, 6, 3, 5).contiguous()
        return torch.view_as_real(pairs).reshape(points, masks, 4 * height, 4 * width)


class _Read:
    """Attention from tokens to the embedding, four projections folded into two on the tokens.

    q·(Wk x) = (Wkᵀq)·x, and what mixes the cells commutes with Wv. Wk's bias adds the same to all
    cells, which softmax takes away again; Wv's goes through unmixed, as weights sum to 1.
    """

    def __init__(self, attention: Any) -> None:
        import torch

        self.heads, (q, k, v, out) = attention.num_heads, _by_head(attention)
        scale = 1 / math.sqrt(q.shape[1])
        self.ask, self.ask_bias = (
            scale * (k.mT @ q).flatten(0, 1),
            scale * (k.mT @ _bias(attention.q_proj, self.heads)).flatten(),
        )
        self.tell = (out @ v).permute(1, 0, 2).flatten(1)
        self.tell_bias = torch.addmv(
            attention.out_proj.bias, attention.out_proj.weight, attention.v_proj.bias
        )

    def __call__(self, queries_PTD: Tensor, placed: Tensor, keys: Tensor) -> Tensor:
        """Return what the tokens read, [P, T, D]; `placed` is the embedding with positions."""
        import torch.nn.functional as F

        asked = (
            F.linear(queries_PTD, self.ask, self.ask_bias)
            .unflatten(-1, (self.heads, -1))
            .flatten(1, 2)
        )
        mixed = (asked @ placed.mT).softmax(-1) @ keys
        return F.linear(mixed.unflatten(1, (-1, self.heads)).flatten(2), self.tell, self.tell_bias)


class _Write:
    """Attention from the embedding to the tokens, folded likewise."""

    def __init__(self, attention: Any) -> None:
        self.heads, (q, k, v, out) = attention.num_heads, _by_head(attention)
        scale = 1 / math.sqrt(q.shape[1])
        k_bias, v_bias, q_bias = (
            _bias(part, self.heads)
            for part in (attention.k_proj, attention.v_proj, attention.q_proj)
        )
        self.offer, self.offer_bias = (
            scale * (q.mT @ k).flatten(0, 1),
            scale * (q.mT @ k_bias).flatten(),
        )
        # What the queries' bias adds to a token's score, the same for all cells.
        self.lean, self.lean_bias = (
            scale * (q_bias.mT @ k).flatten(0, 1),
            scale * (q_bias.mT @ k_bias).flatten(),
        )
        # A head's weights sum to 1 over the tokens, so that a share of the output's bias can ride
        # on each value.
        self.give = (out @ v).flatten(0, 1)
        self.give_bias = ((out @ v_bias)[..., 0] + attention.out_proj.bias / self.heads).flatten()

    def __call__(
        self, places_PTD: Tensor, tokens_PTD: Tensor, placed: Tensor, keys: Tensor
    ) -> Tensor:
        """The embedding plus what it takes from the tokens, [P, N, D]."""
        import torch
        import torch.nn.functional as F

        points, tokens = tokens_PTD.shape[:2]
        offered = F.linear(places_PTD, self.offer, self.offer_bias).view(
            points, tokens * self.heads, -1
        )
        lean = F.linear(places_PTD, self.lean, self.lean_bias).view(points, tokens * self.heads, 1)
        scores = (offered @ placed.mT).add_(lean).view(points, tokens, self.heads, -1)
        given = F.linear(tokens_PTD, self.give, self.give_bias).view(
            points, tokens * self.heads, -1
        )
        return torch.baddbmm(keys.expand(points, -1, -1), scores.softmax(1).flatten(1, 2).mT, given)


def _by_head(attention: Any) -> list[Tensor]:
    """Weights of the projections to q, k and v, [H, C, D], and of the output's, [H, D, C]."""
    heads = attention.num_heads
    parts = [
        projection.weight.unflatten(0, (heads, -1))
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    ]
    return [*parts, attention.out_proj.weight.unflatten(1, (heads, -1)).transpose(0, 1)]


def _bias(projection: Any, heads: int) -> Tensor:
    return projection.bias.unflatten(0, (heads, -1, 1))


def _spread(convolution: Any, x: Tensor) -> Tensor:
    """A transposed convolution with kernel and stride 2: [..., K] per cell to [..., 2, 2, K']."""
    import torch.nn.functional as F

    weight = convolution.weight  # [K, K', 2, 2]
    spread = F.linear(x, weight.permute(2, 3, 1, 0).flatten(0, 2), convolution.bias.repeat(4))
    return spread.unflatten(-1, (2, 2, weight.shape[1]))
