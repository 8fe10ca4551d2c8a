"""What finds masks: one small interface, three segmenters, and room for a user's own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from clif_exp.base_models.spec import BaseModels
from clif_exp.curation.segmenters.proposals import Segmenter


def build_segmenter(
    settings: Mapping[str, Any], *, spec: BaseModels, device: str = "cpu"
) -> Segmenter:
    """Build the segmenter that the settings name.

    Args:
        settings: `name` (sam, provided, felzenszwalb) or `target` ("package.module:callable" of a
            user's own), and that segmenter's own keys; keys of other steps (`choose`, `parts`, ...)
            are left alone.
        spec: base models; names SAM's checkpoint where the settings do not.
        device: where SAM runs.

    Returns:
        A `Segmenter`.

    Raises:
        ValueError: an unknown name, a target that cannot be imported, an unreadable checkpoint.
    """
    own = dict(settings.get("settings") or {})
    target = settings.get("target")
    if target:
        return _import_target(str(target))(**own)
    name = settings.get("name")
    if name == "sam":
        from clif_exp.base_models.sam import load_sam
        from clif_exp.curation.segmenters.sam import SamSegmenter

        model_type = own.pop("model_type", None)
        checkpoint = own.pop("checkpoint", None) or spec.segmenter_checkpoint
        sha256 = own.pop("sha256", None)
        return SamSegmenter(
            load_sam(checkpoint, model_type=model_type, sha256=sha256), device=device, **own
        )
    if name in ("felzenszwalb", "provided"):
        from clif_exp.curation.segmenters.regions import RegionSegmenter

        # Given masks need no segmenter; images without one, parts and contexts still do.
        return RegionSegmenter(name=str(name), **own)
    raise ValueError(
        f"segmenter.name: found {name!r}. Choose sam, provided or felzenszwalb, or give a target."
    )


def _import_target(target: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"segmenter.target: '{target}' cannot be imported ({error}). Write"
            " 'package.module:callable'."
        ) from None
