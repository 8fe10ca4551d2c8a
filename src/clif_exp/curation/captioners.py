"""What lists a concept's parts: the user, an OpenAI-compatible server, or a local model."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from clif_exp.artifacts.files import write_json
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
        return OpenAICaptioner(**own)
    if settings.name == "vlm":
        return VisionLanguageCaptioner(device=device, **own)
    return ProvidedCaptioner(**own)


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


class OpenAICaptioner:
    """Parts from an OpenAI-compatible server through the official client.

    Base URL and key come from OPENAI_BASE_URL and OPENAI_API_KEY unless given; neither is ever
    written to a file.

    Args:
        model: the server's name of a model that reads images; else OPENAI_MODEL.
        base_url: the server.
        timeout: seconds per request.
        max_retries: of the client, with its exponential back-off, on time-outs, rate limits and
            server errors.
        max_parts: how many parts to ask for.
        cache: folder that keeps answers by content, so that none is requested twice; None keeps
            none.
        prompt: the question, with {class_word} and {max_parts}.
    """

    def __init__(
        self,
        *,
        model: str | None,
        base_url: str | None,
        timeout: float,
        max_retries: int,
        max_parts: int,
        cache: str | None,
        prompt: str,
    ) -> None:
        self.model: str = model or os.environ.get("OPENAI_MODEL", "")
        if not self.model:
            raise ValueError(
                "captioner.settings.model: none given and OPENAI_MODEL is not set. Name a model"
                " that reads images."
            )
        if not os.environ.get("OPENAI_API_KEY"):
            raise ValueError(
                "captioner=openai: OPENAI_API_KEY is not set. Export it (any text for a local"
                " server), or captioner=provided."
            )
        self.base_url, self.timeout, self.max_retries = base_url, timeout, max_retries
        self.max_parts, self.prompt = max_parts, prompt
        self.cache = Path(cache).expanduser() if cache else None

    def parts(self, concept: Concept, images: Sequence[Image.Image]) -> list[str]:
        """Ask once per concept; see `Captioner.parts`.

        Raises:
            ValueError: the answer is no list of names; shows the answer.
            RuntimeError: the server did not answer; names the concept and the remedy.
        """
        question = self.prompt.format(class_word=concept.class_word, max_parts=self.max_parts)
        encoded = [_as_png(image) for image in images[:2]]
        digest = hashlib.sha256(
            "\0".join([self.model, question]).encode() + b"".join(encoded)
        ).hexdigest()
        file = self.cache / f"{digest}.json" if self.cache else None
        if file and file.is_file():
            return json.loads(file.read_text())["parts"]
        parts = parse_parts(
            self._ask(concept, question, encoded),
            where=f"concept '{concept.name}'",
            max_parts=self.max_parts,
        )
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"parts": parts})
        return parts

    def _ask(self, concept: Concept, question: str, encoded: Sequence[bytes]) -> str:
        from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAI

        client = OpenAI(base_url=self.base_url, timeout=self.timeout, max_retries=self.max_retries)
        content: list[Any] = [{"type": "text", "text": question}]
        for data in encoded:
            url = "data:image/png;base64," + base64.b64encode(data).decode()
            content.append({"type": "image_url", "image_url": {"url": url}})
        try:
            answer = client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": content}],
                temperature=0.0,
                max_tokens=200,
            )
        except APITimeoutError:
            found = f"no answer within {self.timeout:g} s, {self.max_retries + 1} times"
        except APIConnectionError as error:
            found = f"no connection ({error.__cause__ or error})"
        except APIStatusError as error:
            found = f"status {error.status_code} ({' '.join(error.message.split())[:200]})"
        else:
            if not answer.choices or not isinstance(answer.choices[0].message.content, str):
                raise ValueError(
                    f"concept '{concept.name}': the captioner's server sent no text. List parts in"
                    " concepts.yaml instead."
                )
            return answer.choices[0].message.content
        raise RuntimeError(
            f"concept '{concept.name}': captioner's server {client.base_url}: {found}. Check"
            " OPENAI_BASE_URL and the server, or use captioner=provided with parts in"
            " concepts.yaml."
        )


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


def parse_parts(answer: str, *, where: str, max_parts: int) -> list[str]:
    """Read a JSON list of part names, and nothing else.

    Args:
        answer: what the model wrote; a code fence around the list is allowed.
        where: what the answer is about, for messages.
        max_parts: how many names to take.

    Returns:
        Lower-case names without repetition.

    Raises:
        ValueError: the answer is anything else; shows it.
    """
    text = re.sub(r"^```(?:json)?\s*|\s*```$", "", answer.strip())
    try:
        names = json.loads(text)
    except json.JSONDecodeError:
        names = None
    shaped = (
        isinstance(names, list)
        and names
        and all(
            isinstance(n, str) and re.fullmatch(r"[A-Za-z][A-Za-z -]{0,30}", n.strip())
            for n in names
        )
    )
    if not shaped:
        raise ValueError(
            f"{where}: the captioner answered {answer[:200]!r}, which is no JSON list of part"
            " names. Try another model, or list parts in concepts.yaml."
        )
    return list(dict.fromkeys(name.strip().lower() for name in names))[:max_parts]


def _as_png(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((512, 512))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    return buffer.getvalue()
