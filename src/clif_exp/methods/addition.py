"""Merging by addition: the sum of updates that were trained apart.

Exact for updates that share no direction (Po et al. 2024, Orthogonal Adaptation, Eq. 7; trained
with `LoraTuning.basis`): W = W0 + sum_i B_i A_i. Of any other LoRAs it is the plain sum, which
merging methods are compared with.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clif_exp.base_models.tensor_files import save_tensors
from clif_exp.base_models.unet_tuning.lora import FILE, LoraTuning, read_lora
from clif_exp.base_models.unet_tuning.registry import KINDS
from clif_exp.methods.parts import Parts, merge_embeddings, refuse_text_tuning

_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
# Products of unit rows in fp32 that are orthogonal; of equal rows it is 1.
_ORTHOGONAL = 1e-3


def add_loras(
    loras: Sequence[Mapping[str, Tensor]], *, scales: Sequence[float]
) -> dict[str, Tensor]:
    """Return one LoRA whose update is the sum of all updates, by laying them along the rank.

    B A = [s_1 B_1, s_2 B_2, ...] [A_1; A_2; ...]: exact, no new approximation.

    Args:
        loras: keys `<layer>.lora_A.weight` [r_i, I] and `<layer>.lora_B.weight` [O, r_i], the same
            in all.
        scales: alpha / rank of each.

    Returns:
        The same keys, of rank sum_i r_i, to be used with an alpha of that rank.

    Raises:
        ValueError: they are of different layers.
    """
    for lora in loras[1:]:
        if differing := sorted(lora.keys() ^ loras[0].keys()):
            raise ValueError(
                f"{differing[0]}: only some of the LoRAs have it. Train all concepts with the same"
                " diffusion.target_modules on the same base model."
            )
    return {
        key: torch.cat([lora[key] for lora in loras])
        if key.endswith(_DOWN)
        else torch.cat([scale * lora[key] for lora, scale in zip(loras, scales)], dim=1)
        for key in sorted(loras[0])
    }


def merge_by_addition(out: Path, *, parts: Parts, disjoint: bool) -> None:
    """Merge concepts that were customised apart into one LoRA, the sum of theirs.

    Publishes the concept embeddings and, if some part has a LoRA, pytorch_lora_weights.safetensors
    of rank sum_i r_i.

    Args:
        out: existing folder.
        parts: concept -> folder with its embeddings and, if its U-Net was trained, a LoRA; a folder
            that holds several concepts is added once.
        disjoint: refuse LoRAs that share directions.

    Raises:
        ValueError: a part holds something else; or two LoRAs share directions.
    """
    refuse_text_tuning(parts, method="method.merging.kind=addition")
    if disjoint and (shared := shared_direction(parts)) is not None:
        raise ValueError(
            f"method.merging.kind=addition: the LoRAs of {shared}. Train them with the same seed"
            " and diffusion.rank, each with its own index."
        )
    found = [_read(folder) for folder in dict.fromkeys(parts.values()) if not _is_empty(folder)]
    merge_embeddings(out, parts)
    if not found:
        return
    settings = [metadata for _, metadata in found]
    merged = add_loras(
        [tensors for tensors, _ in found],
        scales=[float(s["unet.lora_alpha"]) / int(s["unet.r"]) for s in settings],
    )
    rank = sum(int(s["unet.r"]) for s in settings)
    metadata = settings[0] | {"unet.r": rank, "unet.lora_alpha": rank}
    save_tensors(
        merged,
        out / FILE,
        metadata={"lora_adapter_metadata": json.dumps(metadata, sort_keys=True)},
    )


def shared_direction(parts: Parts) -> str | None:
    """Find two LoRAs whose lower matrices are not orthogonal, so that their sum is not exact.

    Args:
        parts: see `merge_by_addition`.

    Returns:
        "'rick' and 'morty' share directions (cosine 0.3 in <layer>)", the largest cosine of the
        first two that do; None: none do.
    """
    folders: dict[Path, list[str]] = {}
    for concept, folder in parts.items():
        folders.setdefault(folder, []).append(concept)
    read = {folder: _read(folder)[0] for folder in folders if not _is_empty(folder)}
    for one, other in itertools.combinations(read, 2):
        cosines = {
            key.removesuffix(_DOWN): _largest_cosine(read[one][key], read[other][key])
            for key in sorted(read[one].keys() & read[other].keys())
            if key.endswith(_DOWN)
        }
        layer = max(cosines, key=cosines.__getitem__, default="")
        if layer and cosines[layer] > _ORTHOGONAL:
            names = " and ".join(f"'{', '.join(folders[folder])}'" for folder in (one, other))
            return f"{names} share directions (cosine {cosines[layer]:.2g} in {layer})"
    return None


def _largest_cosine(one_RI: Tensor, other_RI: Tensor) -> float:
    """Return the largest |cosine| of two rows; 0 where they are of different spaces."""
    if one_RI.shape[1] != other_RI.shape[1]:
        return 0.0
    rows = [torch.nn.functional.normalize(rows.double(), dim=1) for rows in (one_RI, other_RI)]
    return float((rows[0] @ rows[1].T).abs().max())


def _is_empty(folder: Path) -> bool:
    """Return whether a part has no weights: its embeddings alone were trained."""
    return not any(kind.published_in(folder) for kind in KINDS.values())


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not LoraTuning.published_in(folder):
        raise ValueError(
            f"{folder}: holds no {FILE}; method.merging.kind=addition adds LoRAs. Train with"
            " diffusion.unet=lora."
        )
    return read_lora(folder / FILE)
