"""Parts from a vision-language model on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from clif_exp.concepts.concept import Concept
from clif_exp.curation.captioners.answers import parse_parts


class VisionLanguageCaptioner:
    """Parts from a local vision-language model through transformers' image-text-to-text pipeline.

    Args:
        model: folder or hub id; its own code is never run.
        revision: commit of a hub id.
        max_parts: how many parts to ask for.
        max_new_tokens: length of an answer.
        prompt: the question, with {class_word} and {max_parts}.
        device: where it runs.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str | None,
        max_parts: int,
        max_new_tokens: int,
        prompt: str,
        device: str,
    ) -> None:
        from transformers import pipeline

        try:
            self.pipe = pipeline(
                "image-text-to-text",
                model=model,
                revision=revision,
                device=device,
                trust_remote_code=False,
            )
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"captioner.settings.model: {model} cannot be loaded"
                f" ({str(error).splitlines()[0]})."
            ) from None
        self.max_parts, self.max_new_tokens, self.prompt = max_parts, max_new_tokens, prompt

    def parts(self, concept: Concept, images: Sequence[Image.Image]) -> list[str]:
        """Ask once per concept; see `Captioner.parts`."""
        question = self.prompt.format(class_word=concept.class_word, max_parts=self.max_parts)
        shown: list[dict[str, Any]] = [{"type": "image", "image": image} for image in images[:1]]
        content = [*shown, {"type": "text", "text": question}]
        answer: Any = self.pipe(
            text=[{"role": "user", "content": content}],  # type: ignore[list-item]  # the stub knows plain prompts only
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            return_full_text=False,
        )
        return parse_parts(
            answer[0]["generated_text"], where=f"concept '{concept.name}'", max_parts=self.max_parts
        )
