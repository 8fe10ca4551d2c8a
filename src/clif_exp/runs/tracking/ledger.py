"""What a tracker was sent already, kept in the run's folder, so that a resumed job repeats nothing.

It is written before a point is sent: a job that is killed in between sends none twice.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Ledger:
    """One tracker's ledger, a small JSON file that is written anew with every point.

    Attributes:
        identity: of the tracker's run, 8 hex digits unless the tracker gave one.
        part: the tracker's folder of the last job, if it has one for each.
    """

    def __init__(self, file: Path, *, identity: str | None = None) -> None:
        """Open or create it.

        Args:
            file: where it lies.
            identity: the run's, where something else than this file decides it; what was sent to
                another one does not count.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        found = _read(file)
        if identity is not None and found.get("id") != identity:
            found = {}
        self.identity: str = identity or found.get("id") or uuid.uuid4().hex[:8]
        self._row: int = found.get("row", 0)
        self._curves: dict[str, dict[str, Any]] = found.get("curves", {})
        self.part: str | None = found.get("part")
        self._write()

    def due(self, curve: str, step: int, *, content: str) -> bool:
        """Return whether a step of a curve was not sent yet, and note that it is sent now.

        Args:
            curve: its name.
            step: at least as high as those before.
            content: what the curve is of, such as an artifact's fingerprint; a curve of something
                else is sent from its beginning.
        """
        known = self._curves.get(curve)
        if known is not None and known["content"] == content and step <= known["step"]:
            return False
        self._curves[curve] = {"content": content, "step": step}
        self._write()
        return True

    def correct(self, last_steps: Mapping[str, int]) -> None:
        """Note how far the tracker really got, where that is less than what it was sent.

        Args:
            last_steps: curve -> step; a curve that is not there is sent from its beginning.
        """
        self._curves = {
            name: known | {"step": min(known["step"], last_steps[name])}
            for name, known in self._curves.items()
            if name in last_steps
        }
        self._write()

    def begin(self, part: Path) -> None:
        """Note the folder that the tracker writes to from now on."""
        self.part = str(part.absolute())
        self._write()

    def next_row(self, *, at_least: int = 0) -> int:
        """Return the number of the next row of the whole run, which only ever grows."""
        self._row = max(self._row + 1, at_least)
        self._write()
        return self._row

    def close(self) -> None:
        """Close the file; it stays for the next job."""
        os.close(self._descriptor)

    def _write(self) -> None:
        content = {"id": self.identity, "row": self._row, "part": self.part, "curves": self._curves}
        data = json.dumps(content).encode()
        # In place, as it is done for every point: one write that a kill cannot cut in two.
        os.pwrite(self._descriptor, data, 0)
        os.ftruncate(self._descriptor, len(data))


def _read(file: Path) -> dict[str, Any]:
    """Return a ledger's content; nothing if there is none that can be read."""
    try:
        # What follows the object is left of a longer one: a kill came before the cut.
        found, _ = json.JSONDecoder().raw_decode(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
