"""Batches without the context shortcut: each context, side and scale comes with several concepts (DESIGN, section 4).

If every pair of a batch had its own context, frozen context words alone would tell which picture belongs to which caption,
and the loss would fall without teaching the concept tokens anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from clif_exp.contrastive.pairs import Pair
from clif_exp.trainer import step_generator


class GroupedBatches:
    """Draws whole groups of pairs, each batch a pure function of (seed, step).

    Args:
        pairs: all pairs.
        batch_size: pairs per step over all ranks; filled with whole groups, the last one cut.
        seed: of the order.
        ranks: processes that share a batch; the size is rounded down to a multiple.

    Raises:
        ValueError: there are no pairs.
    """

    def __init__(self, pairs: Sequence[Pair], *, batch_size: int, seed: int, ranks: int = 1) -> None:
        if not pairs:
            raise ValueError("contrastive: the manifests hold no pairs. Raise num_pairs or leave stage 1 out.")
        groups: dict[str, list[int]] = {}
        for index, pair in enumerate(pairs):
            groups.setdefault(pair.group, []).append(index)
        # Groups with one concept teach the shortcut only; they are used when there is nothing else.
        several = [members for members in groups.values() if len({pairs[i].meta.concept for i in members}) > 1]
        self.groups = several or list(groups.values())
        self.batch_size = min(batch_size, sum(len(members) for members in self.groups)) // ranks * ranks
        if self.batch_size == 0:
            raise ValueError(f"contrastive.batch_size: found {batch_size}; {ranks} ranks need at least one pair each.")
        self.seed = seed

    def __call__(self, step: int) -> list[int]:
        """Return the indices of the pairs of a step, exactly `batch_size` of them."""
        generator = step_generator(self.seed, step, stream=1)
        chosen: list[int] = []
        for group in torch.randperm(len(self.groups), generator=generator).tolist():
            members = self.groups[group]
            shuffled = [members[i] for i in torch.randperm(len(members), generator=generator).tolist()]
            chosen += shuffled[: self.batch_size - len(chosen)]
            if len(chosen) == self.batch_size:
                break
        return chosen
