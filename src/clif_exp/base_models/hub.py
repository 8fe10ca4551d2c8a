"""Models of the Hugging Face hub: told from folders here, and pinned to a commit.

A hub's model is named `owner/name` or `owner/name@revision`, a file of it `owner/name/file` or
`owner/name/file@revision`, the file in folders or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

VARIANTS = (".fp16.safetensors", ".non_ema.safetensors")  # which no loader here asks for
CONFIGS = ("*.json", "*.txt")
WEIGHTS = (*CONFIGS, "model*.safetensors")
"""What transformers reads of a model; repositories hold the same weights in other formats, too."""


def is_local(path: str | Path) -> bool:
    """Return whether a model path names a folder rather than a hub id (``owner/name``)."""
    text = str(path)
    return (
        Path(text).exists()
        or text.startswith((".", "/", "~"))
        or text.partition("@")[0].count("/") != 1
    )


def is_hub_file(checkpoint: str) -> bool:
    """Return whether a checkpoint's name means a file on the hub: "owner/repository/file"."""
    return (
        not Path(checkpoint).expanduser().exists()
        and not checkpoint.startswith((".", "/", "~"))
        and checkpoint.partition("@")[0].count("/") >= 2
    )


def located(name: str) -> tuple[str, dict[str, Any]]:
    """Return a model's folder or hub id, and what else `from_pretrained` wants to know of it."""
    path, revision = split_revision(name)
    return path, {} if revision is None else {"revision": revision}


def split_revision(name: str | Path) -> tuple[str, str | None]:
    """Split `owner/name@revision`; a folder has no revision."""
    if Path(name).exists() or (is_local(name) and not is_hub_file(str(name))):
        return str(name), None
    path, _, revision = str(name).partition("@")
    return path, revision or None


def pin(name: str, *, field: str, files: Sequence[str] = ("config.json",)) -> str:
    """Name the commit of a hub's model or file, so that fingerprints and records hold it.

    Args:
        name: as above, or a folder or file here, which is returned as it is.
        field: of the config that names it.
        files: patterns of what is downloaded of a model, too; of a file's repository, the file.

    Raises:
        ValueError: the hub has no such model, or cannot be reached and its cache here has none.
    """
    if is_local(name) and not is_hub_file(name):
        return name
    path, revision = split_revision(name)
    owner, model, *file = path.split("/", 2)
    commit = fetch(f"{owner}/{model}", revision=revision, field=field, files=file or files)
    return f"{path}@{commit}"


def fetch(repository: str, *, revision: str | None, field: str, files: Sequence[str]) -> str:
    """Download files of a hub's model, or find them in its cache here.

    Args:
        repository: `owner/name`.
        revision: branch, tag or commit; None: main.
        field: of the config that names the model.
        files: patterns.

    Returns:
        The commit.

    Raises:
        ValueError: as `pin`.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(files),
            ignore_patterns=[f"*{ending}" for ending in VARIANTS],
        )
    except Exception as error:
        at = f"{repository}@{revision}" if revision else repository
        raise ValueError(
            f"{field}: {at!r} is neither a folder here nor a model that could be downloaded "
            f"({type(error).__name__}). Check the name and the network, or give a local folder."
        ) from error
    return Path(folder).name
