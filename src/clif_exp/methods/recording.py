"""What linear layers read, recorded as Gram matrices, and a model that holds other weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from clif_exp.methods.gradient_fusion import gram, with_ones

Select = Callable[[Tensor], Tensor]
"""Picks rows [N, I] of a layer's inputs [..., I]."""


def all_rows(inputs: Tensor) -> Tensor:
    """Return all rows of a layer's inputs, [N, I]."""
    return inputs.flatten(end_dim=-2)


@contextmanager
def recorded(
    layers: Mapping[str, nn.Linear], *, biased: Sequence[str] = (), select: Select = all_rows
) -> Iterator[dict[str, Tensor]]:
    """Sum up the Gram matrices of everything that layers read inside.

    Memory does not grow with the number of calls.

    Args:
        layers: name -> layer.
        biased: names of those whose bias is fused too: a 1 is appended to their inputs.
        select: which rows count.

    Yields:
        Name -> X^T X, float64 [I, I] on the layer's device; complete when the block ends.
    """
    grams: dict[str, Tensor] = {}
    shared: dict[bool, tuple[Any, Tensor]] = {}  # queries, keys and values read one tensor

    def hook(name: str) -> Callable[..., None]:
        def record(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
            inputs, ones = arguments[0], name in biased
            if ones not in shared or shared[ones][0] is not inputs:
                rows_NI = select(inputs.detach())
                shared[ones] = (inputs, gram(with_ones(rows_NI) if ones else rows_NI))
            here = shared[ones][1]
            grams[name] = grams[name] + here if name in grams else here

        return record

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(hook(name)).remove)
        yield grams


@contextmanager
def holding(model: Any, changes: Mapping[str, Tensor]) -> Iterator[None]:
    """Add changes to a model's parameters inside.

    Args:
        model: changes in place, and back.
        changes: parameter's name -> what is added to it.
    """
    parameters = dict(model.named_parameters())
    before = {name: parameters[name].data for name in changes}
    for name, change in changes.items():
        parameters[name].data = before[name] + change.to(before[name])
    try:
        yield
    finally:
        for name, value in before.items():
            parameters[name].data = value


@torch.no_grad()
def add_changes(model: Any, changes: Mapping[str, Tensor]) -> None:
    """Add changes to a model's parameters for good."""
    parameters = dict(model.named_parameters())
    for name, change in changes.items():
        parameters[name].add_(change.to(parameters[name]))
