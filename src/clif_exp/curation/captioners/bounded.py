"""An HTTP client that neither waits nor reads without end, whatever the server does."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx2
from openai import OpenAIError


class UnusableAnswer(OpenAIError):
    """What the server sends cannot be read; asking again would not help."""


class BoundedClient(httpx2.AsyncClient):
    """httpx's client, with a limit on the time and the bytes of every response.

    Its own time-outs hold for single reads: a byte now and then keeps a response open for good, and
    nothing limits its length. Here the time runs from connecting to the last byte. Redirects are
    not followed: key and images go to the named server only.

    Args:
        seconds: per attempt; beyond it `httpx2.ReadTimeout` is raised, which the official client
            retries.
        max_bytes: of a body; beyond it `UnusableAnswer` is raised.
    """

    def __init__(self, *, seconds: float, max_bytes: int) -> None:
        # A compressed body would get past any limit on its length.
        super().__init__(timeout=seconds, headers={"Accept-Encoding": "identity"})
        self.seconds, self.max_bytes = seconds, max_bytes
        # It would log every address, with the password in it.
        logging.getLogger("httpx2").setLevel(logging.WARNING)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request and read its whole response within the limits."""
        options |= {"stream": True, "follow_redirects": False}
        try:
            async with asyncio.timeout(self.seconds):
                response = await super().send(request, **options)
                try:
                    body = await self._read(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise httpx2.ReadTimeout("the time is over", request=request) from None
        return httpx2.Response(
            response.status_code, headers=response.headers, content=body, request=request
        )

    async def _read(self, response: httpx2.Response) -> bytes:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise UnusableAnswer("a compressed answer, which was not asked for")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self.max_bytes:
                raise UnusableAnswer(f"an answer of more than {self.max_bytes:,} bytes")
        return bytes(body)
