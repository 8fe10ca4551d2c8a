"""Parts as the user lists them."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from clif_exp.concepts.concept import Concept


class ProvidedCaptioner:
    """Parts as `concepts.yaml` lists them.

    Args:
        default_parts: tried on concepts that list none; the matching threshold sorts out what they
            do not have.
    """

    def __init__(self, *, default_parts: Sequence[str]) -> None:
        self.default_parts = list(default_parts)

    def parts(self, concept: Concept, images: Sequence[Image.Image]) -> list[str]:  # noqa: ARG002 - the protocol
        """Return the listed parts."""
        return list(concept.parts) or self.default_parts
