"""What a captioner is, and which one the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from clif_exp.concepts.concept import Concept
from clif_exp.curation.settings import CaptionerSettings


class Captioner(Protocol):
    """Lists the parts of a concept."""

    def parts(self, concept: Concept, images: Sequence[Image.Image]) -> list[str]:
        """Names of visible parts, most prominent first; `images` show the concept alone."""
        ...


def build_captioner(settings: CaptionerSettings, *, device: str = "cpu") -> Captioner:
    """Build the captioner that the settings name.

    Raises:
        ValueError: a key or model is missing.
    """
    own = settings.own()
    if settings.name == "openai":
        from clif_exp.curation.captioners.openai_server import OpenAICaptioner

        return OpenAICaptioner(**own)
    if settings.name == "vlm":
        from clif_exp.curation.captioners.vlm import VisionLanguageCaptioner

        return VisionLanguageCaptioner(device=device, **own)
    from clif_exp.curation.captioners.provided import ProvidedCaptioner

    return ProvidedCaptioner(**own)
