"""Digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path


def content_digest(paths: list[Path]) -> str:
    """SHA-256 over the files at or below some paths: their names below them and their content."""
    digest = hashlib.sha256()
    for root in paths:
        files = (
            [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
        )
        for file in files:
            digest.update(f"{root.name}/{file.relative_to(root).as_posix()}\n".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
