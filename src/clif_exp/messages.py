"""Errors in one line each: the field, what was given, what would do."""

from __future__ import annotations

import re
from pathlib import Path


def composition_error(error: BaseException) -> str:
    """Put what Hydra says about a config that it cannot compose into one line."""
    chain, seen = [], error
    while seen is not None and len(chain) < 5:
        chain.append(str(seen))
        seen = seen.__cause__ or seen.__context__  # type: ignore[assignment]
    text = "\n".join(chain)
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match[1]
        if re.search(r"No match in the defaults list", text):
            return f"{key}: no such config group; `python -m clif_exp --help` lists them (an experiment is added: +experiment=NAME)"
        return f"{key}: no such key; `python -m clif_exp --cfg job` shows every key"
    if match := re.search(
        r"In '[^']*': Could not find '([^']+)'\s*Available options in '([^']+)':\s*(.*?)(?:Config search path|\Z)", text, re.S
    ):
        options = ", ".join(line.strip() for line in match[3].splitlines() if line.strip())
        return f"{match[2]}: {match[1].rsplit('/', 1)[-1]!r} is no choice; there are: {options}"
    if match := re.search(r"Could not find '(\w+)/(\w+)'", text):
        return f"{match[1]}: {match[2]!r} is no choice; there are: {', '.join(_choices(match[1]))}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__


def _choices(group: str) -> list[str]:
    from clif_exp.__main__ import config_folder

    return sorted(file.stem for file in Path(config_folder(), group).glob("*.yaml"))
