"""A model's answer, read as a list of part names and as nothing else."""

from __future__ import annotations

import json
import re


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
