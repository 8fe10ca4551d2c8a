"""Attention regularisation (Mix-of-Show, Gu et al. 2023, section 3.2): concepts look at themselves.

What a concept's tokens attend to outside of its mask is penalised, at every resolution of the
U-Net's cross-attention, so that the embeddings take up the concept and not its surroundings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clif_exp.base_models.attention_maps import CrossAttentionMaps


@dataclass(frozen=True)
class AttentionLoss:
    """The penalty, for captions of a fixed list.

    Attributes:
        weight: beside the denoising loss.
        positions_KT: int64, where each caption's tokens of its concept stand; -1: nowhere.
    """

    weight: float
    positions_KT: Tensor

    def __call__(
        self, maps: CrossAttentionMaps, *, caption_indices_B: Tensor, masks_B1HW: Tensor
    ) -> Tensor:
        """Return the weighed penalty of each image, float32 [B], 0 without a concept.

        Args:
            maps: of the denoising pass.
            caption_indices_B: int64.
            masks_B1HW: 1 where the concept is.
        """
        positions_BT = self.positions_KT.to(masks_B1HW.device)[caption_indices_B]
        there_BT = positions_BT >= 0
        count_B = there_BT.sum(1).clamp(min=1)
        total = masks_B1HW.new_zeros(len(masks_B1HW))
        for side in maps.by_size:
            mean_BSSK = maps.mean(side)
            index = positions_BT.clamp(min=0)[:, None, None].expand(-1, side, side, -1)
            map_BSST = mean_BSSK.gather(-1, index)
            largest = map_BSST.amax(dim=(1, 2), keepdim=True).clamp(min=1e-8)
            outside_BSS1 = (
                1 - F.interpolate(masks_B1HW, size=(side, side), mode="area")[:, 0, ..., None]
            )
            stray_BT = (map_BSST / largest * outside_BSS1).mean(dim=(1, 2))
            total = total + (stray_BT * there_BT).sum(1) / count_B
        return self.weight * total / max(1, len(maps.by_size))


def concept_positions(caption_ids_KL: Tensor, token_ids: Mapping[str, Sequence[int]]) -> Tensor:
    """Return where the tokens of a caption's only concept stand, int64 [K, T]; -1: nowhere.

    Args:
        caption_ids_KL: token ids of the captions.
        token_ids: concept -> ids of its tokens.
    """
    most = max(len(ids) for ids in token_ids.values())
    positions = torch.full((len(caption_ids_KL), most), -1)
    for row, ids_L in enumerate(caption_ids_KL.tolist()):
        named = [ids for ids in token_ids.values() if ids[0] in ids_L]
        if len(named) == 1:
            found = [place for place, token in enumerate(ids_L) if token in named[0]][:most]
            positions[row, : len(found)] = torch.tensor(found)
    return positions
