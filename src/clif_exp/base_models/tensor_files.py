"""safetensors files whose bytes follow from their content alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def file_bytes(tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file with its metadata sorted.

    The library writes metadata in another order every time; tensors it sorts itself.
    """
    from safetensors.torch import save

    written = save(dict(tensors), dict(metadata))
    size = _header_size(written)
    header = json.loads(written[8:size]) | {"__metadata__": dict(sorted(metadata.items()))}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the tensors to 8 bytes
    return len(text).to_bytes(8, "little") + text + written[size:]


def save_tensors(
    tensors: Mapping[str, Tensor], file: Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file: same tensors and metadata, same bytes."""
    file.write_bytes(file_bytes(tensors, metadata={"format": "pt", **(metadata or {})}))


def data_digest(content: bytes) -> str:
    """Return the SHA-256 (hex) over the tensors of a safetensors file, without its header."""
    return hashlib.sha256(content[_header_size(content) :]).hexdigest()


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 (hex) over the safetensors right in a folder: names and tensors.

    Raises:
        ValueError: there is none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder}: holds no safetensors. Is it what stage 2 published?")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            stream.seek(_header_size(stream.read(8)))
            tensors = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.name} {tensors}\n".encode())
    return digest.hexdigest()


def _header_size(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")
