"""Which layers of a text encoder a pipeline holds and its U-Net reads, and what trains in vain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def freeze_unread(text_model: Any, *, read: int) -> None:
    """Freeze what `make_trainable` prepared in layers that the U-Net does not read.

    They get no gradient, which training over several ranks would take for an error.

    Args:
        text_model: a CLIP's text tower.
        read: how many of its layers reach the U-Net.
    """
    for name, parameter in text_model.named_parameters():
        if _layer(name) >= read:
            parameter.requires_grad_(False)


def within_pipeline(state: Mapping[str, Tensor], *, layers: int) -> dict[str, Tensor]:
    """Keep the layers that a pipeline's text encoder has: SD 2.1's has one less than its CLIP."""
    return {name: value for name, value in state.items() if _layer(name) < layers}


def unread_share(
    state: Mapping[str, Tensor],
    *,
    before: Mapping[str, Tensor] | None,
    read: int,
    alpha: float,
    rank: int,
) -> float:
    """Return the share of a training's change in layers that the U-Net does not read, in [0, 1].

    Args:
        state: from `tuned_state`.
        before: the weights before ("full"), or None for a LoRA, whose update starts at zero.
        read: number of layers that the U-Net reads; SD 2.1 and SDXL read the penultimate layer,
            the contrastive loss the last one.
        alpha: of a LoRA.
        rank: of a LoRA.

    Returns:
        Squared norm of the change in unread layers over that of the whole change; 0 where nothing
        changed.
    """
    squares = {False: 0.0, True: 0.0}
    for name, value in state.items():
        if before is not None:
            change = value - before[name]
        elif name.endswith("lora_B.weight"):
            change = value @ state[name.replace("lora_B", "lora_A")] * (alpha / rank)
        else:
            continue
        squares[_layer(name) >= read] += float(change.square().sum())
    total = sum(squares.values())
    return squares[True] / total if total else 0.0


def _layer(name: str) -> int:
    """Return the number of a parameter's transformer layer, -1 outside of the layers."""
    parts = name.split(".")
    if "layers" in parts:
        return int(parts[parts.index("layers") + 1])
    # The final norm too, though it comes after them: pipelines without the last layer read it.
    return -1
