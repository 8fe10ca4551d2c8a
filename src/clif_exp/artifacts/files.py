"""Files that appear whole or not at all, JSON lines, digests, and atomic removal of folders."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

GARBAGE = ".garbage-"  # how the name of a folder begins that is being removed


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield a temporary neighbour to write to, which becomes `file` unless writing fails.

    A reader finds the whole file or none, whatever stops this process.

    Raises:
        OSError: it cannot be written; names the file and the remedy.
        FileNotFoundError: the folder is gone, as when another process published it.
    """
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        os.replace(partial, file)
    except FileNotFoundError:
        raise
    except OSError as error:
        found = error.strerror or error
        raise OSError(
            f"{file}: cannot be written ({found}). Free some space, or choose another folder by"
            " paths.root=FOLDER (artifacts.root for the store alone)."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file as `whole_file` does."""
    with whole_file(file) as partial:
        partial.write_bytes(data)


def write_text(file: Path, text: str) -> None:
    """Write a text in UTF-8 as `whole_file` does."""
    write_bytes(file, text.encode())


def write_json(file: Path, content: Any) -> None:
    """Write JSON as `whole_file` does.

    Raises:
        ValueError: the content holds NaN or infinity, which JSON has no word for.
    """
    write_text(file, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_jsonl(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, as `whole_file` does."""
    write_text(file, "".join(json.dumps(line) + "\n" for line in lines))


def read_jsonl(file: Path) -> list[dict[str, Any]]:
    """Read one JSON object per line."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def probe_folder(folder: Path, *, size: int) -> None:
    """Create a folder, if it is not there, and write to it what vanishes again.

    Args:
        folder: where something will be written.
        size: bytes, to find a full disk too.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(size))


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there, so that its name never stands for half of its content."""
    garbage = path.with_name(f"{GARBAGE}{uuid.uuid4().hex}")
    try:
        os.rename(path, garbage)
    except FileNotFoundError:
        return
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
