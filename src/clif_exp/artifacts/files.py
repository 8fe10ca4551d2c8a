"""Files written whole or not at all, lines of JSON, digests, and removal that nobody sees half of."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file that a reader finds whole or not at all, whatever stops this process."""
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a text as `write_bytes` does."""
    write_bytes(file, text.encode())


def write_json(file: Path, content: Any) -> None:
    """Write JSON as `write_bytes` does.

    Raises:
        ValueError: the content holds NaN or infinity, which JSON has no word for.
    """
    write_text(file, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_jsonl(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, as `write_bytes` does."""
    write_text(file, "".join(json.dumps(line) + "\n" for line in lines))


def read_jsonl(file: Path) -> list[dict[str, Any]]:
    """Read one JSON object per line."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def remove_folder(path: Path) -> None:
    """Remove a folder so that nobody ever sees half of it under its own name."""
    if not path.exists():
        return
    garbage = path.with_name(f".garbage-{uuid.uuid4().hex}")
    os.rename(path, garbage)
    shutil.rmtree(garbage, ignore_errors=True)


def content_digest(paths: Sequence[Path]) -> str:
    """Return the SHA-256 over the files at or below some paths: names below them, and content."""
    digest = hashlib.sha256()
    for root in paths:
        files = [root] if root.is_file() else sorted(f for f in root.rglob("*") if f.is_file())
        for file in files:
            digest.update(f"{root.name}/{file.relative_to(root).as_posix()}\n".encode())
            digest.update(file_digest(file))
    return digest.hexdigest()


def file_digest(file: Path) -> bytes:
    """Return a file's SHA-256."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
