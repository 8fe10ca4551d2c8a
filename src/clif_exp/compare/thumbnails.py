"""The images of a comparison: which are shown, how large, and as which files or data URIs."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from clif_exp.artifacts.files import write_bytes
from clif_exp.compare.run import Run

MOST_IMAGES = 4800
"""Images in a page at most: 24 of each of 200 runs, which is what 10 s are enough for."""

BUDGET = 32_000_000
"""Bytes of all thumbnails at most, as they stand in the page; its data fit into 8 MB more."""

_SIDES = (512, 384, 320, 256, 192, 160, 128, 96, 64)  # px, of which the largest that fits is taken
_PROBES = 12  # images whose size is measured to choose the side
_MARGIN = 0.9  # share of the budget that the estimate may fill


@dataclass
class Thumbnails:
    """The images of a page.

    Attributes:
        rows: prompt, seed and part of each row of the grid.
        cells: for each run its image in each row, as a place in `files`; None: it has none.
        files: the thumbnails in WebP.
        side: their longer side at most, px.
        notes: what was left out or made smaller, for the page's reader.
    """

    rows: list[tuple[str, int, str]] = field(default_factory=list)
    cells: list[list[int | None]] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)
    side: int = 0
    notes: list[str] = field(default_factory=list)


def make_thumbnails(runs: Sequence[Run], *, budget: int = BUDGET) -> Thumbnails:
    """Shrink the images of runs so that all together stay below `budget` bytes in base64.

    A file that several runs share is held once. Of more than MOST_IMAGES files, as many prompts and
    seeds are left out in every part as it takes; what cannot be read is left out too.
    """
    found = [{(i.part, i.prompt, i.seed): i.file for i in reversed(run.images)} for run in runs]
    rows = list(dict.fromkeys((i.part, i.prompt, i.seed) for run in runs for i in run.images))
    kept = _spread(rows, found)
    files = list(dict.fromkeys(images[row] for images in found for row in kept if row in images))
    if not files:
        return Thumbnails()
    side, reduced = _choose_side(files, budget=budget)
    encoded = _encode_all(files, side=side)
    total = 0
    places: dict[Path, int] = {}
    result = Thumbnails(side=side, rows=[(prompt, seed, part) for part, prompt, seed in kept])
    full = 0
    for file, data in zip(files, encoded):
        if data is None:
            continue
        if total + _base64_size(data) > budget:  # the estimate failed: images of very unlike sizes
            full += 1
            continue
        total += _base64_size(data)
        places[file] = len(result.files)
        result.files.append(data)
    result.cells = [
        [places.get(images[row]) if row in images else None for row in kept] for images in found
    ]
    if len(kept) < len(rows):
        result.notes.append(
            f"{len(kept)} of {len(rows)} prompts and seeds are shown, some of every part:"
            f" a page holds {MOST_IMAGES:,} images."
        )
    if reduced:
        result.notes.append(f"Images are reduced to {side} px, so that the page stays small.")
    if full:
        result.notes.append(f"{full:,} images are left out, so that the page stays small.")
    if unread := encoded.count(None):
        result.notes.append(f"{unread:,} images are left out: their files cannot be read.")
    return result


def data_uris(files: Iterable[bytes]) -> list[str]:
    """Return thumbnails as data URIs."""
    return [f"data:image/webp;base64,{base64.b64encode(data).decode()}" for data in files]


def write_files(files: Iterable[bytes], folder: Path) -> list[str]:
    """Write thumbnails into a folder; return their addresses relative to the folder's parent.

    A name follows from the content, so that a page that is open keeps its images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for data in files:
        name = f"{hashlib.sha256(data).hexdigest()[:20]}.webp"
        if not (folder / name).exists():
            write_bytes(folder / name, data)
        names.append(name)
    return [f"{folder.name}/{name}" for name in names]


def remove_others(folder: Path, *, keep: Iterable[str]) -> None:
    """Remove the thumbnails of an earlier page: those in the folder whose address is not kept."""
    kept = set(keep)
    for file in folder.glob("*.webp"):
        if f"{folder.name}/{file.name}" not in kept:
            file.unlink()


def _spread(
    rows: Sequence[tuple[str, str, int]], found: Sequence[dict[tuple[str, str, int], Path]]
) -> list[tuple[str, str, int]]:
    """Return rows with at most MOST_IMAGES files: evenly spaced ones of each part."""
    files = {images[row] for images in found for row in rows if row in images}
    share = min(1.0, MOST_IMAGES / max(1, len(files)))
    parts: dict[str, list[tuple[str, str, int]]] = {}
    for row in rows:
        parts.setdefault(row[0], []).append(row)
    kept: list[tuple[str, str, int]] = []
    for part in parts.values():
        count = max(1, int(len(part) * share))
        kept += [part[place * len(part) // count] for place in range(count)]
    return kept


def _choose_side(files: Sequence[Path], *, budget: int) -> tuple[int, bool]:
    """Return the thumbnails' side, and whether it is below the images' own."""
    step = max(1, len(files) // _PROBES)
    probes = files[::step][:_PROBES]
    largest = max((max(size) for file in probes if (size := _size(file))), default=_SIDES[-1])
    sides = [side for side in _SIDES if side < largest]
    if largest <= _SIDES[0]:
        sides.insert(0, largest)
    for side in sides:
        sizes = [_base64_size(data) for data in _encode_all(probes, side=side) if data]
        if sizes and sum(sizes) / len(sizes) * len(files) <= _MARGIN * budget:
            return side, side < largest
    return sides[-1], sides[-1] < largest


def _size(file: Path) -> tuple[int, int] | None:
    try:
        with Image.open(file) as image:
            return image.size
    except OSError:
        return None


def _encode_all(files: Sequence[Path], *, side: int) -> list[bytes | None]:
    # Pillow lets other threads run while it decodes and encodes.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda file: _encode(file, side=side), files))


def _encode(file: Path, *, side: int) -> bytes | None:
    """Return an image as WebP, at most `side` px; None if it cannot be read."""
    buffer = io.BytesIO()
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError):  # SyntaxError: what Pillow says of some broken PNG files
        return None
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.save(buffer, format="WEBP", quality=80, method=2)
    return buffer.getvalue()


def _base64_size(data: bytes) -> int:
    return (len(data) + 2) // 3 * 4 + 26  # with its `data:image/webp;base64,`, quotes and comma
