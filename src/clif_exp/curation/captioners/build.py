"""What a captioner is, and which one the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from clif_exp.base_models.spec import content_identity
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


def captioner_content(settings: CaptionerSettings) -> dict[str, str]:
    """Return a digest of a local captioner's files, for fingerprints; a server's have none."""
    content = content_identity(settings.own()["model"]) if settings.name == "vlm" else None
    return {"captioner": content} if content else {}
