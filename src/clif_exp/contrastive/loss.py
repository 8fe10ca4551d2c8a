"""The contrastive loss (CLIF, Eq. 5) with several positives per row, and gathering over ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from clif_exp.contrastive.targets import IGNORED, POSITIVE


def symmetric_info_nce(
    text_ND: Tensor, image_ND: Tensor, *, targets_NN: Tensor, scale: Tensor | float
) -> Tensor:
    """Contrast texts and images in both directions (CLIF, Eq. 5).

    Args:
        text_ND: text features, L2-normalised, float [N, D].
        image_ND: image features, L2-normalised, float [N, D].
        targets_NN: POSITIVE, NEGATIVE or IGNORED per entry, int8 [N, N]; every row and column holds
            a POSITIVE.
        scale: inverse temperature, scalar > 0.

    Returns:
        Scalar loss in nats, the mean of text->image and image->text.

    Raises:
        ValueError: a row or column has no positive; names the first such pair.
    """
    positive_NN = targets_NN == POSITIVE
    for axis, what in ((1, "caption"), (0, "image")):
        lonely = (~positive_NN.any(dim=axis)).nonzero().flatten()
        if len(lonely):
            raise ValueError(
                f"contrastive targets: {what} {int(lonely[0])} of the batch has no positive."
            )
    logits_NN = (scale * text_ND.float() @ image_ND.float().T).masked_fill(
        targets_NN == IGNORED, -torch.inf
    )
    return 0.5 * (
        _cross_entropy(logits_NN, positive_NN) + _cross_entropy(logits_NN.T, positive_NN.T)
    )


def _cross_entropy(logits_NN: Tensor, positive_NN: Tensor) -> Tensor:
    """Return the mean cross-entropy to targets that are uniform over each row's positives."""
    # A caption can match several images: share the probability among all of them instead of
    # pushing matching ones away, as arange labels would. masked_fill, not a product: 0 * -inf at
    # ignored entries would be NaN.
    log_probability_NN = F.log_softmax(logits_NN, dim=1).masked_fill(~positive_NN, 0.0)
    return -(log_probability_NN.sum(dim=1) / positive_NN.sum(dim=1)).mean()


def gather_with_gradient(local_BD: Tensor) -> Tensor:
    """Concatenate all ranks' features in rank order; gradients flow back to their ranks.

    With DDP, which averages gradients over ranks, a loss that every rank computes on the gathered
    features gives the gradient of one process on the joined batch.

    Args:
        local_BD: this rank's features, float [B, D]; the same B on every rank.

    Returns:
        [ranks * B, D]; the argument itself without torch.distributed.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return local_BD
    return torch.cat(_AllGather.apply(local_BD.contiguous()), dim=0)


class _AllGather(torch.autograd.Function):
    """all_gather whose backward sums every rank's gradient of this rank's part."""

    @staticmethod
    def forward(_ctx: Any, local_BD: Tensor) -> tuple[Tensor, ...]:
        gathered = [torch.empty_like(local_BD) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, local_BD)
        return tuple(gathered)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        stacked = torch.stack(gradients)
        dist.all_reduce(stacked)
        return stacked[dist.get_rank()]
