"""An export turned back into what a training stage publishes, which merging reads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.base_models.layerwise import (
    LAYERWISE_FILE,
    load_layerwise_embeddings,
    save_layerwise_embeddings,
)
from clif_exp.base_models.tensor_files import save_tensors
from clif_exp.base_models.text_tuning import save_text_weights
from clif_exp.base_models.tokens import EMBEDDINGS_FILE, save_concept_embeddings
from clif_exp.base_models.unet_tuning import lora, stock, weights
from clif_exp.export.embeddings import read_embeddings

if TYPE_CHECKING:
    from torch import Tensor

    from clif_exp.base_models.families import Family

_PREFIX = "text_model."  # transformers 5 writes a CLIPTextModel without it


def write_part(
    export: Path, out: Path, *, names: Mapping[str, str], base: Path, family: Family
) -> bool:
    """Write the folder of a training stage that has trained what an export holds.

    A LoRA and embeddings are what was trained, to the bit (alpha / rank is in the LoRA's upper
    matrices). Whole weights are what the export holds: in the precision of the base model's.

    Args:
        export: its folder.
        out: created.
        names: its concept -> name in `out`.
        base: folder of the pipeline that was customised.
        family: of that.

    Returns:
        Whether whole weights were rounded when they were exported.
    """
    out.mkdir()
    if (export / LAYERWISE_FILE).is_file():
        save_layerwise_embeddings(out, _renamed(load_layerwise_embeddings(export), names))
    else:
        found = _renamed(read_embeddings(export, family=family), names)
        save_concept_embeddings(out / EMBEDDINGS_FILE, found)
    if (export / lora.FILE).is_file():
        shutil.copyfile(export / lora.FILE, out / lora.FILE)
    unet, rounded = _changed_unet(export, base=base / stock.FOLDER)
    if unet:
        save_tensors(unet, out / weights.FILE)
    trained = [name for name in family.encoders if (export / name).is_dir()]
    save_text_weights(
        out,
        {name: _changed(_text_files(export / name), _text_files(base / name)) for name in trained},
    )
    return rounded


def _renamed(
    embeddings: Mapping[str, Mapping[str, Tensor]], names: Mapping[str, str]
) -> dict[str, dict[str, Tensor]]:
    return {
        encoder: {names[concept]: rows for concept, rows in own.items() if concept in names}
        for encoder, own in embeddings.items()
    }


def _changed_unet(export: Path, *, base: Path) -> tuple[dict[str, Tensor], bool]:
    """Return an export's own weights of the U-Net, fp32, and whether they had been rounded."""
    if (file := export / stock.CUSTOM_DIFFUSION_FILE).is_file():
        found = stock.read_custom_diffusion(file)
    elif (export / stock.FOLDER).is_dir():
        return _changed(stock.model_files(export / stock.FOLDER), stock.model_files(base)), any(
            _in_half(file) for file in stock.model_files(base)
        )
    else:
        return {}, False
    rounded = any(value.element_size() < 4 for value in found.values())
    return {name: value.float() for name, value in found.items()}, rounded


def _in_half(file: Path) -> bool:
    with stock.open_stored([file]) as stored:
        return any(opened.get_slice(n).get_dtype() != "F32" for n, opened in stored.files.items())


def _changed(own_files: Sequence[Path], base_files: Sequence[Path]) -> dict[str, Tensor]:
    """Return the parameters that differ from the base's, fp32, under their names in a tower."""
    with stock.open_stored(own_files) as own, stock.open_stored(base_files) as base:
        known = {name.removeprefix(_PREFIX): name for name in base.files}
        changed = {}
        for name in own.files:
            short = name.removeprefix(_PREFIX)
            value = own[name].float()
            if short in known and not value.equal(base[known[short]].float()):
                changed[short] = value
    return changed


def _text_files(folder: Path) -> list[Path]:
    return stock.model_files(folder, name="model.safetensors")
