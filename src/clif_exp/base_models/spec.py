"""Which base models a run uses: named, found, pinned and identified."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import file_digest, write_text
from clif_exp.base_models.checks import (
    VARIANTS,
    check_model_folder,
    check_pipeline_folder,
    check_weights,
)
from clif_exp.base_models.families import FAMILIES, Family, family_named
from clif_exp.base_models.sam import is_hub_file

_WEIGHT_PATTERNS = ["*.json", "*.txt", "*.safetensors"]


@dataclass(frozen=True)
class BaseModels:
    """Which base models a run uses.

    Attributes:
        family: a key of `families.FAMILIES`.
        path: a diffusers pipeline: a local folder or a hub id; None: the packaged one, where the
            family has one.
        revision: commit of a hub id; None takes the newest and `resolve` records which one that
            was.
        contrastive: text encoder -> CLIP checkpoint, folder or hub id, whose text tower equals the
            pipeline's.
        resolution: side of the images in px.
        segmenter_checkpoint: SAM weights, or None for the segmenter's own choice.
        domain: the only kind of images that the models know, as a dataset's `domain`; None: any.
    """

    family: str
    path: str | None = None
    revision: str | None = None
    contrastive: Mapping[str, str] = field(default_factory=dict)
    resolution: int = 512
    segmenter_checkpoint: str | None = None
    domain: str | None = None

    @property
    def record(self) -> Family:
        """What the family's models have in common."""
        return FAMILIES[self.family]


def packaged_weights() -> Path:
    """Return the folder of ToonWorld's shipped weights."""
    return Path(__file__).parents[1] / "toonworld" / "weights"


def resolve(spec: BaseModels) -> BaseModels:
    """Fill in defaults and check that the named models exist and fit together; loads nothing.

    Raises:
        ValueError: as `resolve_pipeline`; or what is missing or broken of the other models.
    """
    spec = resolve_pipeline(spec)
    expected = sorted(spec.record.encoders)
    if sorted(spec.contrastive) != expected:
        raise ValueError(
            f"model.contrastive: found {sorted(spec.contrastive)}; {spec.family} needs one CLIP"
            f" checkpoint for each of {expected}, because a pipeline holds no image tower."
        )
    for encoder, checkpoint in spec.contrastive.items():
        if is_local(checkpoint):
            check_model_folder(Path(checkpoint), what=f"model.contrastive.{encoder}")
    if spec.segmenter_checkpoint is not None and not is_hub_file(spec.segmenter_checkpoint):
        check_weights(Path(spec.segmenter_checkpoint), what="model.segmenter_checkpoint")
    return spec


def resolve_pipeline(spec: BaseModels) -> BaseModels:
    """Fill in the pipeline's defaults and check it, leaving the other models as they are.

    Raises:
        ValueError: an unknown family, a missing folder, component or weight file, weights that are
            not safetensors, or a pipeline of another family; names what was found and how to fix
            it.
    """
    family = family_named(spec.family)
    if spec.resolution <= 0 or spec.resolution % 8:
        raise ValueError(
            f"model.resolution: found {spec.resolution}; it must be a positive multiple of 8."
        )
    spec = _fill_in_packaged(spec) if family.packaged else spec
    if not spec.path:
        raise ValueError(
            f"model.path: found {spec.path!r}; give a folder or hub id of a {spec.family} pipeline."
        )
    if is_local(spec.path):
        check_pipeline_folder(Path(spec.path), family=spec.family, record=family)
        return replace(spec, revision=None)
    return replace(spec, revision=_pin_revision(str(spec.path), spec.revision, family))


def is_local(path: str | Path) -> bool:
    """Return whether a model path names a folder rather than a hub id (``owner/name``)."""
    text = str(path)
    return Path(text).exists() or text.startswith((".", "/", "~")) or text.count("/") != 1


def pipeline_folder(spec: BaseModels) -> Path:
    """Return the folder of a resolved pipeline's files: its own, or the hub's cache of it."""
    if is_local(str(spec.path)):
        return Path(str(spec.path)).expanduser()
    from huggingface_hub import snapshot_download

    wanted = _wanted(spec.record)
    return Path(
        snapshot_download(str(spec.path), revision=spec.revision, local_files_only=True, **wanted)
    )


def _wanted(family: Family) -> dict[str, Any]:
    """Return which of a hub model's files are downloaded.

    The client has to be told each time: it takes a cache without the others for incomplete.
    """
    tokenizers = [encoder.tokenizer for encoder in family.encoders.values()]
    parts = ("unet", "vae", *family.encoders, *tokenizers, "scheduler")
    return {
        "allow_patterns": [
            *(f"{part}/{pattern}" for part in parts for pattern in _WEIGHT_PATTERNS),
            "model_index.json",
        ],
        "ignore_patterns": [f"*{ending}" for ending in VARIANTS],
    }


def _fill_in_packaged(spec: BaseModels) -> BaseModels:
    root = Path(spec.path).expanduser() if spec.path else packaged_weights()
    # Either the folder of all of its models or one pipeline.
    if not (root / "model_index.json").is_file():
        root, pipeline = root, root / "pipeline"
    else:
        root, pipeline = root.parent, root
    contrastive = dict(spec.contrastive) or {"text_encoder": str(root / "clip")}
    sam = root / "sam"
    segmenter = spec.segmenter_checkpoint or (str(sam) if sam.is_dir() else None)
    return replace(
        spec, path=str(pipeline), contrastive=contrastive, segmenter_checkpoint=segmenter
    )


def _pin_revision(repo: str, revision: str | None, family: Family) -> str:
    """Download a hub model's safetensors, or find them in the cache; return their commit."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repo, revision=revision, **_wanted(family))
    except Exception as error:
        raise ValueError(
            f"model.path: {repo!r} is neither a folder here nor a model that could be downloaded "
            f"({type(error).__name__}). Check the name and the network, or give a local folder."
        ) from error
    return Path(folder).name


def identity(spec: BaseModels) -> str:
    """Return a SHA-256 over the content of every weight and config file of the base models.

    Local folders are hashed by relative names and contents, not by paths; hub models by
    ``id@revision``.
    """
    digest = hashlib.sha256(f"{spec.family}:{spec.resolution}".encode())
    named = {"pipeline": spec.path, "segmenter": spec.segmenter_checkpoint}
    named |= {f"contrastive.{name}": path for name, path in spec.contrastive.items()}
    for name, path in sorted(named.items()):
        digest.update(f"\n{name}=".encode())
        if path is None:
            continue
        if not is_local(path) or (name == "segmenter" and is_hub_file(path)):
            digest.update(f"{path}@{spec.revision if name == 'pipeline' else ''}".encode())
            continue
        _update_with_content(digest, Path(path).expanduser())
    return digest.hexdigest()


def content_identity(path: str) -> str | None:
    """Return a SHA-256 (hex) over a local model's files; None for a hub's, whose name says it."""
    if not is_local(path) or is_hub_file(path):
        return None
    digest = hashlib.sha256()
    _update_with_content(digest, Path(path).expanduser())
    return digest.hexdigest()


def _update_with_content(digest: hashlib._Hash, root: Path) -> None:
    files = [root] if root.is_file() else sorted(f for f in root.rglob("*") if f.is_file())
    for file in files:
        if root.is_dir() and file.suffix not in (".json", ".txt", ".safetensors"):
            continue
        relative = file.relative_to(root).as_posix() if file != root else ""
        digest.update(f"\n{relative}:".encode() + _file_digest(file))


def customised_weights(spec: BaseModels) -> str:
    """Return a SHA-256 (hex) over the weights that customisation changes: U-Net, text encoders.

    It is the same for a hub model and a copy of it in a folder.

    Args:
        spec: with a resolved pipeline.
    """
    digest = hashlib.sha256()
    for part in ("unet", *spec.record.encoders):
        for file in sorted((pipeline_folder(spec) / part).glob("*.safetensors")):
            if not file.name.endswith(VARIANTS):
                digest.update(f"\n{part}/{file.name}:".encode() + _file_digest(file))
    return digest.hexdigest()


def _file_digest(file: Path) -> bytes:
    """Return a file's SHA-256; large files' are cached by path, size and modification time."""
    from os import environ

    stat = file.stat()
    cache = Path(environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "clif_exp" / "hashes"
    key = hashlib.sha256(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()
    large = stat.st_size > 256 * 2**20
    if large and (cache / key).is_file():
        return bytes.fromhex((cache / key).read_text())
    digest = file_digest(file)
    if large:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            write_text(cache / key, digest.hex())
        except OSError:
            pass  # A cache that cannot be written costs time only.
    return digest
