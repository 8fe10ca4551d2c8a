"""What finds masks: one small interface, three segmenters, and room for a user's own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clif_exp.backbones import BackboneSpec


@dataclass(frozen=True)
class Proposals:
    """Candidate masks of one picture.

    Args:
        masks_NHW: bool [N, H, W] in px of the picture; N may be 0.
        scores_N: the segmenter's own confidence, float32 [N] in [0, 1].
    """

    masks_NHW: np.ndarray
    scores_N: np.ndarray

    @staticmethod
    def none(height: int, width: int) -> Proposals:
        """Nothing found."""
        return Proposals(np.zeros((0, height, width), bool), np.zeros(0, np.float32))


class Segmenter(Protocol):
    """Anything that proposes masks. `name` goes into manifests and messages."""

    name: str

    def propose(self, images: Sequence[np.ndarray]) -> list[Proposals]:
        """Propose masks of whole things and of their parts for uint8 RGB pictures [H, W, 3] of any sizes."""
        ...

    def prompt(self, image: np.ndarray, *, point: tuple[int, int] | None = None, box: tuple[int, int, int, int] | None = None) -> Proposals:
        """Propose masks of what lies at a point or in a box (px), best first."""
        ...


def build_segmenter(settings: Mapping[str, Any], *, spec: BackboneSpec, device: str = "cpu") -> Segmenter:
    """Build the segmenter that the settings name.

    Args:
        settings: `name` (sam, provided, felzenszwalb) or `target` ("package.module:callable" of a user's own), and that
            segmenter's own keys; keys of other steps (`choose`, `parts`, ...) are left alone.
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
        from clif_exp.curation.sam import SamSegmenter, load_sam

        model_type = own.pop("model_type", None)
        checkpoint = own.pop("checkpoint", None) or spec.segmenter_checkpoint
        sha256 = own.pop("sha256", None)
        return SamSegmenter(load_sam(checkpoint, model_type=model_type, sha256=sha256), device=device, **own)
    if name in ("felzenszwalb", "provided"):
        from clif_exp.curation.regions import RegionSegmenter

        # Given masks need no segmenter; pictures without one, parts and contexts still do.
        return RegionSegmenter(name=str(name), **own)
    raise ValueError(f"segmenter.name: found {name!r}. Choose sam, provided or felzenszwalb, or give a target.")


def resolve_checkpoint(checkpoint: str) -> Path:
    """Find a checkpoint: a path, or "owner/repository/file" on the Hugging Face hub (optionally "...@revision").

    Raises:
        ValueError: it is neither.
    """
    path = Path(checkpoint).expanduser()
    if path.exists():
        return path
    repository, _, revision = checkpoint.partition("@")
    if repository.count("/") == 2 and not checkpoint.startswith((".", "/", "~")):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        owner, name, file = repository.split("/")
        try:
            return Path(hf_hub_download(f"{owner}/{name}", file, revision=revision or None))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise ValueError(f"segmenter.settings.checkpoint: {checkpoint} cannot be fetched ({error}). Give a local file.") from None
    raise ValueError(f"segmenter.settings.checkpoint: {checkpoint} does not exist. Give a file, or owner/repository/file of the hub.")


def _import_target(target: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"segmenter.target: '{target}' cannot be imported ({error}). Write 'package.module:callable'.") from None
