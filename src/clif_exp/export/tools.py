"""What other tools call a concept: each has a line of its own to paste."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def sample_prompt(called: Sequence[str]) -> str:
    """Return a prompt for the first concepts, by what a tool calls them."""
    first, *others = called
    if not others:
        return f"a photo of {first}"
    return f"a photo of {first} on the left and {others[0]} on the right"


def in_diffusers(name: str) -> str:
    """Return what diffusers calls a concept: the token that its file adds."""
    return f"<{name}>"


def in_comfyui(name: str) -> str:
    """Return what ComfyUI calls a concept: the file of its embedding."""
    return f"embedding:{name}"


def in_a1111(name: str) -> str:
    """Return what A1111 and Forge call a concept: its file's name, wherever a prompt has it."""
    return name


def whole_words(tokenizer: Any, names: Sequence[str]) -> list[str]:
    """Return the names that a tokenizer knows as one word, in order."""
    return [name for name in names if len(tokenizer(name, add_special_tokens=False).input_ids) == 1]
