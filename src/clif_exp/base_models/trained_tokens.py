"""Concept embeddings in training: a small parameter in place of rows of the token table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


class ConceptEmbeddings:
    """The concept embeddings as one small trainable parameter in place of rows of the token table.

    The parameter is inserted into the output of the token embedding. So the table itself needs no
    gradient, and nothing (weight decay and momentum included) can move a row that belongs to no
    concept.

    Args:
        text_encoder: a model with `get_input_embeddings`, whose table holds the concepts' tokens.
        token_ids: concept name -> token ids.
        learnt: how many of a concept's tokens train, its first ones; None: all.

    Attributes:
        weight: the trainable parameter, or what `place` has put in its place, float32 [all
            concepts' learnt tokens, D].
        flat_ids: the token id of each of its rows, int64.
        initial_norm: mean norm of these rows at the start.
    """

    def __init__(
        self,
        text_encoder: Any,
        *,
        token_ids: Mapping[str, Sequence[int]],
        learnt: int | None = None,
    ) -> None:
        import torch
        from torch import nn

        self.token_ids = {name: list(ids) for name, ids in token_ids.items()}
        self._learnt_ids = {name: ids[:learnt] for name, ids in self.token_ids.items()}
        self.embedding: nn.Embedding = text_encoder.get_input_embeddings()
        flat = torch.tensor(
            [i for ids in self._learnt_ids.values() for i in ids],
            device=self.embedding.weight.device,
        )
        self.flat_ids = flat
        # fp32 whatever the encoder's precision: steps of 1e-3 vanish in half precision.
        self.weight: Tensor = nn.Parameter(self.embedding.weight.detach()[flat].float().clone())
        self.initial_norm = float(self.mean_norm())
        self._index_of_id = torch.full(
            (self.embedding.num_embeddings,), -1, dtype=torch.long, device=flat.device
        )
        self._index_of_id[flat] = torch.arange(len(flat), device=flat.device)
        self._handle = self.embedding.register_forward_hook(self._insert)

    def _insert(self, _module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        if self._index_of_id.device != output.device:
            self._index_of_id = self._index_of_id.to(output.device)
        index_BL = self._index_of_id[inputs[0]]
        inserted = F.embedding(index_BL.clamp(min=0), self.weight).to(output.dtype)
        return torch.where((index_BL >= 0).unsqueeze(-1), inserted, output)

    def mean_norm(self) -> Tensor:
        """Return the learnt embeddings' mean norm, a scalar without gradient."""
        return self.weight.detach().norm(dim=-1).mean()

    def place(self, weight_TD: Tensor) -> None:
        """Use embeddings that are computed from something else that trains."""
        self.weight = weight_TD

    def by_concept(self) -> dict[str, Tensor]:
        """Return concept name -> its embeddings now, float32 [T, D], detached CPU copies.

        They include those of its tokens that do not train.
        """
        import torch

        learnt = self.weight.detach().cpu()
        split = learnt.split([len(ids) for ids in self._learnt_ids.values()])
        table = self.embedding.weight.detach()
        rest = {
            name: table[ids[len(self._learnt_ids[name]) :]].float().cpu()
            for name, ids in self.token_ids.items()
        }
        return {
            name: torch.cat([learnt_TD, rest[name]])
            for name, learnt_TD in zip(self.token_ids, split, strict=True)
        }

    def write_back(self) -> None:
        """Copy the embeddings into the token table, for samplers that do not use the insertion."""
        import torch

        with torch.no_grad():
            table = self.embedding.weight
            table[self.flat_ids.to(table.device)] = self.weight.to(table.device, table.dtype)

    def detach(self) -> None:
        """Write the embeddings back and remove the insertion from the model."""
        self.write_back()
        self._handle.remove()
