"""What layers read, recorded as Gram matrices, and a model that holds other weights.

A convolution is a linear layer of the patches that its kernel covers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clif_exp.methods.gradient_fusion import gram, with_ones

Layer = nn.Linear | nn.Conv2d

Select = Callable[[Tensor], Tensor]
"""Picks rows [N, I] of a layer's inputs [..., I]."""


def is_layer(module: nn.Module) -> bool:
    """Return whether a module multiplies what it reads by one matrix."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def patches(layer: Layer, inputs: Tensor) -> Tensor:
    """Return what a layer's weight, as a matrix [O, I], multiplies: [..., I].

    Args:
        layer: linear, or a convolution, whose I is inputs x kernel.
        inputs: [..., I], or [B, C, H, W].
    """
    if isinstance(layer, nn.Linear):
        return inputs
    assert isinstance(layer.padding, tuple), "diffusers states padding in px"
    return F.unfold(
        inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride
    ).transpose(1, 2)


def all_rows(inputs: Tensor) -> Tensor:
    """Return all rows of a layer's inputs, [N, I]."""
    return inputs.flatten(end_dim=-2)


@contextmanager
def recorded(
    layers: Mapping[str, Layer], *, biased: Sequence[str] = (), select: Select = all_rows
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
    # Queries, keys and values read one tensor; so may convolutions, each with its own kernel.
    shared: dict[tuple[Any, ...], tuple[Any, Tensor]] = {}

    def hook(name: str) -> Callable[..., None]:
        def record(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            assert isinstance(module, Layer)
            inputs, ones = arguments[0], name in biased
            key = (ones, *module.weight.shape[2:], *getattr(module, "stride", ()))
            if key not in shared or shared[key][0] is not inputs:
                rows_NI = select(patches(module, inputs.detach()))
                shared[key] = (inputs, gram(with_ones(rows_NI) if ones else rows_NI))
            here = shared[key][1]
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
