"""The kinds of U-Net tuning; a published folder says by its files which of them it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clif_exp.base_models.unet_tuning.exported import Exported
from clif_exp.base_models.unet_tuning.kind import ExportFacts, TextLora, UNetTuning
from clif_exp.base_models.unet_tuning.lora import LoraTuning, save_lora
from clif_exp.base_models.unet_tuning.web import write_web_lora
from clif_exp.base_models.unet_tuning.weights import WeightTuning

KINDS: dict[str, type[UNetTuning]] = {"lora": LoraTuning, "weights": WeightTuning}


def save_unet_tuning(
    out: Path, *, unet: Any, tuning: UNetTuning | None, pipeline_class: Any, text_lora: TextLora
) -> None:
    """Write what was trained, and the LoRA of the text encoders if stage 1 trained one.

    Args:
        out: folder of a training stage.
        unet: trained, prepared by `tuning`.
        tuning: None where the U-Net was left as it is.
        pipeline_class: the stock pipeline that will load the files.
        text_lora: of stage 1; empty for none.
    """
    if tuning is not None:
        tuning.save(unet, out, pipeline_class=pipeline_class, text_lora=text_lora)
    if text_lora and not (tuning is not None and tuning.merges_text_lora):
        save_lora(None, out, pipeline_class=pipeline_class, text_lora=text_lora)


def load_unet_tuning(pipeline: Any, folder: Path, *, fuse: bool = False) -> None:
    """Put everything that a folder holds for the U-Net into a stock pipeline.

    A LoRA of the text encoders comes along, from the file that stock pipelines load too.

    Args:
        pipeline: changes in place.
        folder: of a training stage or an export; without such files nothing happens.
        fuse: add updates to the weights. Half-precision weights would lose part of them.
    """
    for kind in KINDS.values():
        if kind.published_in(folder):
            kind.load(pipeline, folder, fuse=fuse)


def export_unet_tuning(folder: Path, out: Path, *, facts: ExportFacts) -> list[Exported]:
    """Write the files that other tools load.

    Args:
        folder: what a training stage published.
        out: folder of the export.
        facts: what they are made from and say besides.

    Returns:
        What each kind left in the export; empty without files.
    """
    published = [kind for kind in KINDS.values() if kind.published_in(folder)]
    exported = [kind.export(folder, out, facts=facts) for kind in published]
    if loras := [part.lora for part in exported if part.lora is not None]:
        write_web_lora(out, loras, facts=facts)
    return exported
