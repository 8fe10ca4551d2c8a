"""What finds masks: one small interface, three segmenters, and room for a user's own."""

from __future__ import annotations

import importlib
from typing import Any

from clif_exp.base_models.spec import BaseModels
from clif_exp.curation.segmenters.proposals import Segmenter
from clif_exp.curation.segmenters.settings import SegmenterSettings


def build_segmenter(
    settings: SegmenterSettings, *, spec: BaseModels, device: str = "cpu"
) -> Segmenter:
    """Build the segmenter that the settings name.

    Args:
        settings: its name, or the target of a user's own, and its own settings.
        spec: base models; names SAM's checkpoint where the settings do not.
        device: where SAM runs.

    Returns:
        A `Segmenter`.

    Raises:
        ValueError: a target that cannot be imported, an unreadable checkpoint.
    """
    own = settings.own()
    if settings.target is not None:
        return _import_target(settings.target)(**own)
    if settings.name == "sam":
        from clif_exp.base_models.sam import load_sam
        from clif_exp.curation.segmenters.sam import SamSegmenter

        model_type, sha256 = own.pop("model_type"), own.pop("sha256")
        checkpoint = own.pop("checkpoint") or spec.segmenter_checkpoint
        return SamSegmenter(
            load_sam(checkpoint, model_type=model_type, sha256=sha256), device=device, **own
        )
    from clif_exp.curation.segmenters.regions import RegionSegmenter

    # Given masks need no segmenter; images without one, parts and contexts still do.
    return RegionSegmenter(name=settings.name, **own)


def _import_target(target: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"segmenter.target: '{target}' cannot be imported ({error}). Write"
            " 'package.module:callable'."
        ) from None
