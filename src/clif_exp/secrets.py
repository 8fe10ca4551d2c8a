"""Keeps keys and passwords out of everything that is written: messages, logs, configs, trackers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

HIDDEN = "<hidden>"
# Shorter values stand in ordinary words: masking them would spoil the text and tell their length.
_SHORTEST = 6
_NAME = (
    r"(?:[\w.-]*[_.-])?(?:(?:api|access|secret|private)_?key|token|secret|password|passwd"
    r"|credentials)"
)
_IS_SECRET = re.compile(_NAME, re.IGNORECASE)
# Forms that say by themselves what they are: OpenAI's, Hugging Face's, and an HTTP header's.
_SHAPES = re.compile(
    r"\bsk-[\w-]{8,}|\bhf_[A-Za-z0-9]{16,}|(?<=bearer )[\w.~+/=-]{8,}", re.IGNORECASE
)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
# Of an override (`a.api_key=X`), of YAML on the command line, of a printed dict or JSON.
_ASSIGNED = re.compile(
    rf"""(?P<start>['"]?(?<![\w.]){_NAME}['"]?\s*(?:=|:\s)\s*)(?P<quote>['"]?)(?P<value>[^\s'",;}}\]]+)""",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Return whether a setting or an environment variable of this name holds a secret."""
    return _IS_SECRET.fullmatch(name) is not None


def masked(text: str, *, known: Iterable[str] = ()) -> str:
    """Return a text with every secret replaced by `<hidden>`.

    Secrets are: the values of environment variables that are named like one (OPENAI_API_KEY,
    HF_TOKEN), what has the form of a well-known service's key, a password in an address, and
    `known`.

    Args:
        text: what is about to be written or printed.
        known: further secrets, such as a key from a variable of another name.
    """
    values = [value for name, value in os.environ.items() if is_secret(name)] + list(known)
    # The longest first: one may be a part of another.
    for value in sorted(set(values), key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = text.replace(value, HIDDEN)
    return _IN_ADDRESS.sub(HIDDEN, _SHAPES.sub(HIDDEN, text))


def secrets_in(config: Any) -> list[str]:
    """Return the values in a config, at any depth, whose keys name a secret."""
    if isinstance(config, Mapping):
        found = []
        for key, value in config.items():
            stated = value and isinstance(value, str | int) and not str(value).startswith("${")
            found += [str(value)] if stated and is_secret(str(key)) else secrets_in(value)
        return found
    if isinstance(config, list | tuple):
        return [secret for value in config for secret in secrets_in(value)]
    return []


def without_secrets(config: Any) -> Any:
    """Copy a config, with values hidden whose keys name a secret."""
    if isinstance(config, Mapping):
        return {
            key: HIDDEN if is_secret(str(key)) and value else without_secrets(value)
            for key, value in config.items()
        }
    return (
        [without_secrets(value) for value in config] if isinstance(config, list | tuple) else config
    )


def secret_setting(arguments: Sequence[str]) -> str | None:
    """Return the key of the first override on a command line that states a secret, or None.

    A reference to the environment (`${oc.env:NAME}`) states none.
    """
    for argument in arguments:
        for match in _ASSIGNED.finditer(argument):
            if not match["value"].startswith("${"):
                key = argument.split("=", 1)[0].lstrip("+~")
                return key or match["start"].strip("'\"=: ")
        if "=" in argument and (_SHAPES.search(argument) or _IN_ADDRESS.search(argument)):
            return argument.split("=", 1)[0].lstrip("+~")
    return None
