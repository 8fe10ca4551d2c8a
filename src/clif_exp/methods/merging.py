"""One merge of any kind: the settings choose the function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.base_models.tokens import placeholder
from clif_exp.methods.settings import Addition, ConstrainedMerge, GradientFusion, MergingSettings

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.methods.parts import Parts


def merge(
    out: Path,
    *,
    spec: BaseModels,
    parts: Parts,
    settings: MergingSettings,
    general_texts: Callable[..., list[str]],
    disjoint: bool,
    device: str,
) -> None:
    """Merge concepts that were customised apart; publishes what a training of all would.

    Args:
        out: existing folder.
        spec: with a resolved pipeline.
        parts: concept -> folder in the format of a training stage.
        settings: how to merge.
        general_texts: general prompts of a world, as `diffusion.prior.general_texts`.
        disjoint: refuse LoRAs that share directions.
        device: torch device.

    Raises:
        ValueError: parts that this kind cannot merge.
    """
    phrases = {name: placeholder(name) for name in parts}
    match settings:
        case ConstrainedMerge():
            from clif_exp.methods.constrained_merge import merge_keys_and_values

            merge_keys_and_values(
                out,
                spec=spec,
                parts=parts,
                phrases=phrases,
                captions=general_texts(
                    spec.record.world, count=settings.captions, seed=settings.seed
                ),
                device=device,
            )
        case Addition():
            from clif_exp.methods.addition import merge_by_addition

            merge_by_addition(out, parts=parts, disjoint=disjoint)
        case GradientFusion():
            from clif_exp.methods.fusing import fuse_concepts

            fuse_concepts(
                out,
                spec=spec,
                parts=parts,
                phrases=phrases,
                num_inference_steps=settings.num_inference_steps,
                seed=settings.seed,
                ridge=settings.ridge,
                device=device,
            )
