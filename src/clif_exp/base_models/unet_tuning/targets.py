"""Layers of a U-Net, chosen by the endings of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

KEYS_AND_VALUES = ("attn2.to_k", "attn2.to_v")
"""Of the cross-attention: what reads the text."""


def is_target(layer: str, targets: Sequence[str]) -> bool:
    """Return whether a layer's name ends in one of the targets, as peft matches them."""
    return any(layer == target or layer.endswith(f".{target}") for target in targets)


def check_targets(
    targets: Sequence[str], layers: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Return the layers that are chosen.

    Args:
        targets: endings of names, such as "to_k" or "attn2.to_k".
        layers: name of every linear layer and convolution -> its weight's shape: outputs, inputs,
            and a convolution's kernel.

    Raises:
        ValueError: no layer's name ends in one of them.
    """
    for target in targets:
        if not any(is_target(name, [target]) for name in layers):
            raise ValueError(
                f"diffusion.target_modules: no layer ends in {target!r}. Attention layers here:"
                f" {', '.join(sorted(_attention_endings(layers)))}; convolutions:"
                f" {', '.join(sorted(_convolution_endings(layers)))}."
            )
    return {name: shape for name, shape in layers.items() if is_target(name, targets)}


def _attention_endings(layers: Mapping[str, tuple[int, ...]]) -> set[str]:
    return {
        ".".join(name.split(".")[-2:]) if name[-1].isdigit() else name.split(".")[-1]
        for name in layers
        if "attn" in name
    }


def _convolution_endings(layers: Mapping[str, tuple[int, ...]]) -> set[str]:
    return {name.split(".")[-1] for name, shape in layers.items() if len(shape) > 2}
