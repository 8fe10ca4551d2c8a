"""What every kind of U-Net tuning can do."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clif_exp.base_models.families import Family
    from clif_exp.base_models.unet_tuning.exported import Exported

TextLora = Mapping[str, tuple[Mapping[str, "Tensor"], Mapping[str, Any]]]
"""Text encoder -> (layers, settings) of stage 1's LoRA, as `text_tuning.read_text_lora` returns."""


@dataclass(frozen=True)
class ExportFacts:
    """What exported files are made from, besides what was trained, and what their headers say.

    Attributes:
        name: of the export; of its file for ComfyUI and A1111 too, and so in their menus.
        family: of the base model.
        base_model: its name.
        prediction: what its U-Net predicts, as `scheduler.prediction_of` returns.
        resolution: side of the training images in px.
        concepts: their names.
        unet: folder of the base model's U-Net.
        lora_rank: of the LoRA that stands for whole weights in ComfyUI and A1111.
        trained: when training began and ended, s since 1970 (UTC); None: not recorded.
    """

    name: str
    family: Family
    base_model: str
    prediction: str
    resolution: int
    concepts: tuple[str, ...]
    unet: Path
    lora_rank: int
    trained: tuple[float, float] | None = None

    @property
    def web_file(self) -> str:
        """Name of the file that ComfyUI, A1111, Forge and kohya's scripts load."""
        return f"{self.name}.safetensors"


class UNetTuning(Protocol):
    """One way to train a U-Net; an instance holds its settings, its published files need none.

    Attributes:
        merges_text_lora: whether its file also holds stage 1's LoRA of the text encoders, which
            stock pipelines load from the same file.
    """

    merges_text_lora: ClassVar[bool]

    def check(self, layers: Mapping[str, tuple[int, ...]]) -> None:
        """Raise ValueError if it has no place in a U-Net.

        Args:
            layers: name of every linear layer and convolution -> its weight's shape.
        """
        ...

    def prepare(self, unet: Any, *, seed: int) -> list[nn.Parameter]:
        """Make a frozen U-Net trainable, in place; return what trains, in fp32."""
        ...

    def switched_off(self, unet: Any) -> AbstractContextManager[None]:
        """Make a prepared U-Net compute, inside, what it computed before `prepare`."""
        ...

    def save(self, unet: Any, out: Path, *, pipeline_class: Any, text_lora: TextLora) -> None:
        """Write what was trained into a folder, with the text LoRA if it merges that."""
        ...

    @classmethod
    def published_in(cls, folder: Path) -> bool:
        """Return whether a folder holds files of this kind."""
        ...

    @classmethod
    def load(cls, pipeline: Any, folder: Path, *, fuse: bool = False) -> None:
        """Put a folder's files into a stock pipeline; fused where its weights are fp32."""
        ...

    @classmethod
    def export(cls, folder: Path, out: Path, *, facts: ExportFacts) -> Exported:
        """Write the files that other tools load; return what the README says of them.

        `facts.web_file` is written from the LoRAs that all kinds return.
        """
        ...
