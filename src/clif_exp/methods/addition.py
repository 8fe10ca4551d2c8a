"""Merging by addition: the sum of updates that were trained apart.

Exact for updates that share no direction (Po et al. 2024, Orthogonal Adaptation, Eq. 7; trained
with `LoraTuning.basis`): W = W0 + sum_i B_i A_i. Of any other LoRAs it is the plain sum, which
merging methods are compared with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clif_exp.base_models.tensor_files import save_tensors
from clif_exp.base_models.unet_tuning.lora import FILE, LoraTuning, read_lora
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

    Publishes concept_embeddings.safetensors and pytorch_lora_weights.safetensors of rank sum_i r_i.

    Args:
        out: existing folder.
        parts: concept -> folder with its embeddings and its U-Net's LoRA.
        disjoint: refuse LoRAs that share directions.

    Raises:
        ValueError: a part holds something else; or two LoRAs share directions.
    """
    refuse_text_tuning(parts, method="method.merging.kind=addition")
    found = {concept: _read(folder) for concept, folder in parts.items()}
    if disjoint:
        _refuse_shared({concept: tensors for concept, (tensors, _) in found.items()})
    settings = [metadata for _, metadata in found.values()]
    merged = add_loras(
        [tensors for tensors, _ in found.values()],
        scales=[float(s["unet.lora_alpha"]) / int(s["unet.r"]) for s in settings],
    )
    rank = sum(int(s["unet.r"]) for s in settings)
    metadata = settings[0] | {"unet.r": rank, "unet.lora_alpha": rank}
    merge_embeddings(out, parts)
    save_tensors(
        merged,
        out / FILE,
        metadata={"lora_adapter_metadata": json.dumps(metadata, sort_keys=True)},
    )


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not LoraTuning.published_in(folder):
        raise ValueError(
            f"{folder}: holds no {FILE}; method.merging.kind=addition adds LoRAs. Train with"
            " diffusion.unet=lora."
        )
    return read_lora(folder / FILE)


def _refuse_shared(loras: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Refuse LoRAs whose rows are not orthogonal to another concept's."""
    names = list(loras)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            for key in loras[one].keys() & loras[other].keys():
                if not key.endswith(_DOWN):
                    continue
                rows = [
                    torch.nn.functional.normalize(loras[name][key].double(), dim=1)
                    for name in (one, other)
                ]
                if rows[0].shape[1] == rows[1].shape[1] and (
                    (shared := (rows[0] @ rows[1].T).abs().max().item()) > _ORTHOGONAL
                ):
                    raise ValueError(
                        f"method.merging.kind=addition: the LoRAs of '{one}' and '{other}' share"
                        f" directions (cosine {shared:.2g} in {key.removesuffix(_DOWN)}). Train"
                        " them with the same seed and diffusion.rank, each with its own index."
                    )
