"""What one kind of U-Net tuning leaves in an export, and what the export's README says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """How near a LoRA comes to a change of whole weights; errors are ||dW - BA||_F / ||dW||_F.

    Attributes:
        rank: of the LoRA.
        error: over all that changed; what has no place in a LoRA counts as lost.
        worst_layer: the layer with the largest error among those that the LoRA holds; "": none.
        worst_error: its error.
        left_out: share of ||dW||_F of all that changed which is in biases and norms.
    """

    rank: int
    error: float
    worst_layer: str
    worst_error: float
    left_out: float


@dataclass(frozen=True)
class WebLora:
    """A LoRA for the file that ComfyUI, A1111, Forge and kohya's scripts load.

    Attributes:
        tensors: diffusers state dict, keys ``<model>.<module>.lora_A.weight`` and ``.lora_B``.
        ranks: model (unet, text_encoder, ...) -> rank.
        alphas: model -> alpha; the update is scaled by alpha / rank of the layer.
        fit: how near it comes to what was trained; None: it is what was trained.
    """

    tensors: Mapping[str, Tensor]
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    fit: Fit | None = None


@dataclass(frozen=True)
class Exported:
    """What one kind of tuning left in an export.

    Attributes:
        files: file or folder (with a slash) -> the tools that read it, as the README says it.
        components: part of a stock pipeline, and the folder that holds it -> its diffusers class.
        code: Python that loads the rest into a stock pipeline `pipe`, a line each.
        lora: what ComfyUI and A1111 load; None: they have no file for it.
        unread: what no stock tool reads, as the subject of a sentence in the plural ("embeddings of
            each layer"); None: stock tools read all.
        notes: of the README, a paragraph each.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    components: Mapping[str, str] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    lora: WebLora | None = None
    unread: str | None = None
    notes: tuple[str, ...] = ()
