"""What users wrote, as messages show it: short, on one line, nothing hidden or reordered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAX_PROBLEMS = 20  # listed of one set; a broken file can hold thousands of the same kind
_LINE = 500  # characters of one problem


def visible(text: str, limit: int = 80) -> str:
    """Escape what would not show as it stands (control and text-direction marks), and cut.

    Args:
        text: of any length.
        limit: characters of it to keep.
    """
    kept = text[:limit] + "..." if len(text) > limit else text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in kept
    )


def shown(value: Any) -> str:
    """Describe a value that a file holds, whatever it is, without writing out structures."""
    if isinstance(value, str):
        return f"'{visible(value)}'"
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    if isinstance(value, list | tuple | set):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number of more than 19 digits"
    return visible(str(value))


def listing(problems: Sequence[str]) -> str:
    """Join problems, one per line, of which the first 20 are listed and the rest counted."""
    lines = [visible(problem, _LINE) for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"... and {len(problems) - MAX_PROBLEMS:,} more problems.")
    return "\n".join(lines)
