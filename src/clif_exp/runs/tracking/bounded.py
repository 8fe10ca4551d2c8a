"""Calls that may wait for a network, bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def within(seconds: float, call: Callable[[], Any]) -> bool:
    """Make a call that is waited for at most some seconds; return whether it ended in time.

    One that did not goes on in a thread that no process waits for. Its error is raised here, if it
    comes in time.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    if errors:
        raise errors[0]
    return not thread.is_alive()
