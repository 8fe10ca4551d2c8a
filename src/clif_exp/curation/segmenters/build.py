"""What finds masks: one small interface, three segmenters, and room for a user's own."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import file_digest
from clif_exp.base_models.spec import BaseModels, content_identity
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


def segmenter_content(settings: SegmenterSettings) -> dict[str, str]:
    """Return a digest of the files that a segmenter is read from, for fingerprints.

    Those that `model=` names have their part in the base models' identity, the hub's are named by
    the settings; of a user's own segmenter the file counts that defines it.
    """
    if settings.target is not None:
        try:
            found = importlib.util.find_spec(settings.target.partition(":")[0])
        except (ImportError, ValueError):
            return {}  # building it says what is wrong
        file = Path(found.origin) if found is not None and found.origin else None
        return {"segmenter": file_digest(file).hex()} if file and file.is_file() else {}
    checkpoint = settings.own()["checkpoint"] if settings.name == "sam" else None
    content = content_identity(checkpoint) if checkpoint else None
    return {"segmenter": content} if content else {}


def _import_target(target: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"segmenter.target: '{target}' cannot be imported ({error}). Write"
            " 'package.module:callable'."
        ) from None
