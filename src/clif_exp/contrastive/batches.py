"""Batches without the context shortcut: several concepts per context, side and scale.

If every pair of a batch had its own context, frozen context words alone would tell which image
belongs to which caption, and the loss would fall without teaching the concept tokens anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from clif_exp.base_models.tokens import tokenize
from clif_exp.contrastive.pairs import Pair
from clif_exp.contrastive.pooling import Pooling, concept_position, cut_padding, eos_positions
from clif_exp.contrastive.targets import contrastive_targets
from clif_exp.training.steps import step_generator


class GroupedBatches:
    """Draws whole groups of pairs, each batch a pure function of (seed, step).

    Args:
        pairs: all pairs.
        batch_size: pairs per step over all ranks; filled with whole groups, the last one cut.
        seed: of the order.
        ranks: processes that share a batch; the size is rounded down to a multiple of it.

    Raises:
        ValueError: there are no pairs, or fewer pairs per batch than ranks.
    """

    def __init__(
        self, pairs: Sequence[Pair], *, batch_size: int, seed: int, ranks: int = 1
    ) -> None:
        if not pairs:
            raise ValueError(
                "contrastive: the manifests hold no pairs. Raise num_pairs or leave stage 1 out."
            )
        groups: dict[str, list[int]] = {}
        for index, pair in enumerate(pairs):
            groups.setdefault(pair.group, []).append(index)
        # Groups with one concept teach the shortcut only: a last resort.
        several = [
            members
            for members in groups.values()
            if len({pairs[i].meta.concept for i in members}) > 1
        ]
        self.groups = several or list(groups.values())
        self.concepts = [pair.meta.concept for pair in pairs]
        self.batch_size = (
            min(batch_size, sum(len(members) for members in self.groups)) // ranks * ranks
        )
        if self.batch_size == 0:
            raise ValueError(
                f"contrastive.batch_size: found {batch_size}; {ranks} ranks need at least one pair"
                " each."
            )
        self.seed = seed

    def __call__(self, step: int) -> list[int]:
        """Return the indices of the pairs of a step, exactly `batch_size` of them."""
        generator = step_generator(self.seed, step, stream=1)
        taken: list[list[int]] = []
        room = self.batch_size
        for group in torch.randperm(len(self.groups), generator=generator).tolist():
            members = self.groups[group]
            shuffled = [
                members[i] for i in torch.randperm(len(members), generator=generator).tolist()
            ]
            if room == 1 and taken:
                # A pair alone with its context teaches the shortcut: cut two groups, not one, or
                # take this one in place of one of two pairs.
                large = [one for one in taken if len(one) > 2]
                if large:
                    large[-1].pop()
                    room = 2
                elif len(members) > 2:
                    room += len(taken.pop())
            taken.append(self._with_several_concepts_first(shuffled)[:room])
            room -= len(taken[-1])
            if room == 0:
                break
        return [index for one in taken for index in one]

    def _with_several_concepts_first(self, members: list[int]) -> list[int]:
        """Order pairs so that any cut keeps several concepts: each concept's first pair first."""
        seen: Counter[str] = Counter()
        rounds = []
        for index in members:
            rounds.append(seen[self.concepts[index]])
            seen[self.concepts[index]] += 1
        return [
            index
            for _, index in sorted(zip(rounds, members, strict=True), key=lambda item: item[0])
        ]


class PairBatches:
    """Builds a step's batch: token ids, positions to read, targets, indices of image features.

    Args:
        pairs: all pairs.
        order: which of them a step takes.
        tokenizer: a CLIP tokenizer with the concepts' tokens.
        token_ids: concept name -> token ids.
        pooling: kind ("G", "R") -> where text features are read.
        part_features_ND: L2-normalised image features of each pair's part alone, float [N, D];
            None: no parts are compared.
        identical_part_threshold: cosine from which parts of different concepts are not contrasted;
            1 contrasts all.

    Raises:
        ValueError: a caption is too long, or does not name the concept or part to read.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        order: GroupedBatches,
        tokenizer: Any,
        token_ids: Mapping[str, Sequence[int]],
        pooling: Mapping[Any, Pooling],
        part_features_ND: Tensor | None = None,
        identical_part_threshold: float = 1.0,
    ) -> None:
        self.pairs, self.order, self.pooling = pairs, order, pooling
        self.part_features_ND = part_features_ND
        self.identical_part_threshold = identical_part_threshold
        self.eos_id = tokenizer.eos_token_id
        self.ids_NL = tokenize(
            tokenizer,
            [pair.caption for pair in pairs],
            num_tokens={name: len(ids) for name, ids in token_ids.items()},
        )
        self.positions_N = self._positions(tokenizer, token_ids)

    @property
    def size(self) -> int:
        """Pairs per step over all ranks."""
        return self.order.batch_size

    def _positions(self, tokenizer: Any, token_ids: Mapping[str, Sequence[int]]) -> Tensor:
        """Return the position at which each caption is read, int64 [N]."""
        positions = eos_positions(self.ids_NL, eos_id=self.eos_id)
        for index, pair in enumerate(self.pairs):
            if self.pooling[pair.group[0]] != "concept":
                continue
            if pair.meta.stranger:
                own, part = _ids(tokenizer, pair.meta.concept.removeprefix("a ")), []
            else:
                own = list(token_ids[pair.meta.concept])
                part = _ids(tokenizer, pair.meta.part) if pair.meta.part else []
            positions[index] = concept_position(
                self.ids_NL[index].tolist(), concept_ids=own, part_ids=part
            )
        return positions

    def __call__(self, step: int) -> dict[str, Any]:
        """Return the batch of a step."""
        return {"step": step, **self.batch(self.order(step))}

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return the batch of given pairs.

        Returns:
            `indices` int64 [B], `ids` int64 [B, L], `positions` int64 [B], `targets` int8 [B, B],
            `captions`.
        """
        chosen = torch.as_tensor(indices)
        targets = contrastive_targets(
            [self.pairs[i].meta for i in indices],
            pooling=[self.pooling[self.pairs[i].group[0]] for i in indices],
            part_features_ND=(
                None if self.part_features_ND is None else self.part_features_ND[chosen]
            ),
            identical_part_threshold=self.identical_part_threshold,
        )
        return {
            "indices": chosen,
            "ids": cut_padding(self.ids_NL[chosen], eos_id=self.eos_id),
            "positions": self.positions_N[chosen],
            "targets": targets,
            "captions": [self.pairs[i].caption for i in indices],
        }


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids
