"""Stage versions."""

from __future__ import annotations

import re
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]


def version_of(module: str) -> int:
    """Return the `VERSION` of a module of this package, by its path ("curation/stage.py"), without
    importing it.
    """
    match = re.search(r"^VERSION(?:: int)? = (\d+)", (_PACKAGE / module).read_text(), re.M)
    assert match is not None, f"{module} states no VERSION"
    return int(match[1])
