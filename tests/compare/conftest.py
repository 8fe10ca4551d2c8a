"""One Chromium for all tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MISSING = "no chromium in PATH: apt-get install chromium (.ci/run does it)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The machine's Chromium; without it the tests are skipped, but never in CI."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a file as a reader does; at the end nothing may have asked a network or complained."""
    opened = []
    wrong: list[str] = []

    def open_file(file: Path, *, width: int = 1400, height: int = 900, **options: Any) -> Any:
        # Without reduced motion, the page scrolls smoothly: boxes would be measured on the way.
        page = browser.new_page(
            viewport={"width": width, "height": height}, reduced_motion="reduce", **options
        )
        page.set_default_timeout(5000)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "data:"))
                else wrong.append(f"asked for {request.url}")
            ),
        )
        page.goto(file.as_uri())
        opened.append(page)
        return page

    yield open_file
    for page in opened:
        page.close()
    assert not wrong, wrong
