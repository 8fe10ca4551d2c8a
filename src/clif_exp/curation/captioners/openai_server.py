"""Parts from an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from PIL import Image

from clif_exp.artifacts.files import write_json
from clif_exp.concepts.concept import Concept
from clif_exp.curation.captioners.answers import parse_parts
from clif_exp.secrets import masked

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MAX_BYTES = 1 << 20
"""A list of part names takes some hundred bytes; nobody needs more than a megabyte around it."""


class OpenAICaptioner:
    """Parts from an OpenAI-compatible server through the official client.

    Base URL and key come from OPENAI_BASE_URL and OPENAI_API_KEY unless given; neither is ever
    written to a file, and a server's answer that quotes the key is shown without it.

    Args:
        model: the server's name of a model that reads images.
        base_url: the server.
        timeout: seconds per attempt, from connecting to the answer's last byte.
        max_retries: of the client, with its exponential back-off, on time-outs, rate limits and
            server errors.
        max_parts: how many parts to ask for.
        cache: folder that keeps answers by content, so that none is requested twice; None keeps
            none.
        prompt: the question, with {class_word} and {max_parts}.

    Raises:
        ValueError: model or key are missing, or the key cannot be sent.
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
        if not model:
            raise ValueError(
                "captioner.settings.model: none given and OPENAI_MODEL is not set. Name a model"
                " that reads images."
            )
        self.model = model
        self._key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not self._key:
            raise ValueError(
                "captioner=openai: OPENAI_API_KEY is not set. Export it (any text for a local"
                " server), or captioner=provided."
            )
        if not (self._key.isascii() and self._key.isprintable()):
            # The HTTP library would quote the whole header, and so the key, in its error.
            raise ValueError(
                "captioner=openai: OPENAI_API_KEY holds characters that no HTTP header can carry."
                " Copy it again."
            )
        self.base_url, self.timeout, self.max_retries = base_url, timeout, max_retries
        self.max_parts, self.prompt = max_parts, prompt
        self.cache = Path(cache).expanduser() if cache else None

    def parts(self, concept: Concept, images: Sequence[Image.Image]) -> list[str]:
        """Ask once per concept; see `Captioner.parts`.

        Raises:
            ValueError: the answer is no list of names; shows the answer.
            RuntimeError: the server did not answer, or not with text; names the concept and the
                remedy.
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
            self._masked(asyncio.run(self._ask(concept, question, encoded))),
            where=f"concept '{concept.name}'",
            max_parts=self.max_parts,
        )
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"parts": parts})
        return parts

    async def _ask(self, concept: Concept, question: str, encoded: Sequence[bytes]) -> str:
        from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI

        from clif_exp.curation.captioners.bounded import BoundedClient, UnusableAnswer

        content: list[Any] = [{"type": "text", "text": question}]
        for data in encoded:
            url = "data:image/png;base64," + base64.b64encode(data).decode()
            content.append({"type": "image_url", "image_url": {"url": url}})
        async with (
            BoundedClient(seconds=self.timeout, max_bytes=MAX_BYTES) as http,
            AsyncOpenAI(
                api_key=self._key,
                base_url=self.base_url,
                timeout=self.timeout,
                max_retries=self.max_retries,
                http_client=http,
            ) as client,
        ):
            try:
                answer = await self._complete(client, content)
            except APITimeoutError:
                found = f"no whole answer within {self.timeout:g} s, {self.max_retries + 1} times"
            except APIConnectionError as error:
                found = f"no connection ({error.__cause__ or error})"
            except APIStatusError as error:
                found = f"status {error.status_code} ({self._shown(error.response.text)})"
            except UnusableAnswer as error:
                found = str(error)
            else:
                body = answer.http_response.text
                if (text := _text_of(body)) is not None:
                    return text
                kind = answer.headers.get("Content-Type", "no content type")
                found = f"no text of a chat completion but {kind}: {self._shown(body)}"
            server = self._masked(str(client.base_url))
        raise RuntimeError(
            f"concept '{concept.name}': captioner's server {server}: {self._masked(found)}. Check"
            " OPENAI_BASE_URL and the server, or use captioner=provided with parts in"
            " concepts.yaml."
        )

    async def _complete(self, client: AsyncOpenAI, content: list[Any]) -> Any:
        """Ask, and once more without each option that the server's model does not take."""
        from openai import BadRequestError

        options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 200}
        while True:
            try:
                # Raw: the client's own types trust that the body is what the API promises.
                return await client.chat.completions.with_raw_response.create(
                    model=self.model, messages=[{"role": "user", "content": content}], **options
                )
            except BadRequestError as error:
                # Models that reason refuse both; what is read of an answer is bounded anyway.
                refused = [name for name in options if name in error.response.text]
                if not refused:
                    raise
                options = {key: value for key, value in options.items() if key not in refused}

    def _shown(self, text: str) -> str:
        """The start of what a server sent, in one line."""
        # Masked before it is cut, so that no half of a key is left.
        line = " ".join(self._masked(text).split())
        return (line[:200] + "…") if len(line) > 200 else (line or "nothing")

    def _masked(self, text: str) -> str:
        """The text without the key and without a login in the server's address."""
        address = urlsplit(self.base_url or os.environ.get("OPENAI_BASE_URL", ""))
        login = f"{address.username}:{address.password}" if address.password else ""
        header = base64.b64encode(login.encode()).decode()
        return masked(text, known=[self._key, address.password or "", header])


def _text_of(body: str) -> str | None:
    """The text of a chat completion; None where the body is none."""
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return text if isinstance(text, str) else None


def _as_png(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((512, 512))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    return buffer.getvalue()
