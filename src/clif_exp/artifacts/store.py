"""Content-addressed artifacts: computed once, published whole or not at all, resumable.

<root>/<stage>/<fingerprint>/           a finished artifact, with artifact.json
<root>/<stage>/<fingerprint>.partial/   work in progress, read only by that stage's own resume
<root>/<stage>/<fingerprint>.damaged-*/ was found damaged and set aside
<root>/<stage>/.locks/                  who is building what

python -m clif_exp.artifacts ls|gc|verify [--root artifacts]
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clif_exp.artifacts.building import build_into, sync_folder
from clif_exp.artifacts.files import probe_folder, remove_folder
from clif_exp.artifacts.integrity import RECORD, damage, read_record
from clif_exp.artifacts.locks import process_lock
from clif_exp.artifacts.sharing import forget
from clif_exp.errors import Refused

# Times as much work as a build must have had for its rate to be used.
_EXTRAPOLATED = 10


@dataclass(frozen=True)
class Artifact:
    """A published artifact.

    Attributes:
        stage: which stage built it.
        fingerprint: SHA-256 of everything its content depends on, 64 hex digits.
        path: its folder; never written to after publication.
        reused: found already published.
        seconds: wall time that building it took (over all the runs that worked on it).
        peak_memory_mb: highest resident memory of the building process, MiB.
    """

    stage: str
    fingerprint: str
    path: Path
    reused: bool
    seconds: float
    peak_memory_mb: float


def fingerprint(
    stage: str, *, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """Return the SHA-256 over a stage's name, version, relevant settings and input fingerprints."""
    text = json.dumps(
        {"stage": stage, "version": version, "config": config, "inputs": inputs},
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()


class ArtifactStore:
    """The artifacts under one folder, shared by any number of processes and machines."""

    def __init__(
        self, root: Path, *, reuse: bool = True, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """Open the store.

        Args:
            root: its folder; created on first use.
            reuse: False computes every requested artifact again (once per store object) and
                replaces it.
            say: is given a message when another process is building, and when an artifact is
                damaged.
        """
        self.root = Path(root).absolute()
        self.reuse = reuse
        self.say = say
        self._fresh: set[str] = set()
        # (folder, inode) -> what a check found wrong with it; None: nothing.
        self._damage: dict[tuple[str, int], str | None] = {}

    def get_or_build(
        self,
        stage: str,
        *,
        version: int,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        build: Callable[[Path], None],
        before: Callable[[Artifact | None], None] = lambda _: None,
        work: float = 1.0,
        collective: bool = False,
        contribute: Callable[[Path], None] | None = None,
    ) -> Artifact:
        """Return the artifact with this fingerprint; build and publish it if it is not there.

        One that is damaged is set aside and built again.

        Args:
            stage: its name, also the folder's.
            version: the stage's VERSION, raised when its results change.
            config: its result-relevant settings, JSON values only.
            inputs: name -> fingerprint of each input (artifacts, raw files' content, base models'
                identity).
            build: fills the folder it is given, which may hold an earlier, killed build's work.
            before: is given what was found (None: it will be built) before the work starts.
            work: how much there is to do, in units of the stage's choice, recorded to estimate
                later builds.
            collective: all ranks of a distributed run build together (training); otherwise one
                process at a time.
            contribute: does a share of the work in the folder that another process is building.

        Raises:
            Refused: the store cannot be written.
        """
        digest = fingerprint(stage, version=version, config=config, inputs=inputs)
        path = self.root / stage / digest
        if process_rank() > 0:
            return (
                self._join(stage, digest, build)
                if collective
                else self._contribute(stage, digest, contribute)
            )
        rebuild = not self.reuse and digest not in self._fresh
        if not rebuild and (found := self._published(stage, digest)):
            before(found)
            return found

        def wait(who: str) -> None:
            if contribute is None or rebuild:
                self.say(f"{stage}: waiting for {who}, which is building it")
                return
            self.say(f"{stage}: sharing the work with {who}, which is building it")
            partial, patience = self.partial_path(stage, digest), time.monotonic() + 2
            while not partial.is_dir() and time.monotonic() < patience:
                time.sleep(0.02)  # it has the lock and is about to create the folder
            with contextlib.suppress(FileNotFoundError):  # finished and published meanwhile
                contribute(partial)

        self._check_writable(stage)
        with process_lock(self.lock_path(stage, digest), on_wait=wait):
            if not rebuild and (found := self._published(stage, digest)):
                before(found)
                return found
            if not rebuild and path.exists():
                self._set_aside(path)
            before(None)
            partial = self.partial_path(stage, digest)
            if rebuild:
                remove_folder(partial)
            record = {
                "stage": stage,
                "fingerprint": digest,
                "version": version,
                "config": config,
                "inputs": inputs,
                "work": work,
            }
            seconds, peak = build_into(partial, build, record)
            if rebuild:
                remove_folder(path)
            os.rename(partial, path)
            forget(path)  # what a helper claimed after the work was done
            sync_folder(path.parent)
            self._fresh.add(digest)
            self._damage[str(path), path.stat().st_ino] = None
        return Artifact(stage, digest, path, False, seconds, peak)

    def find(
        self, stage: str, *, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> Artifact | None:
        """Return the artifact with this fingerprint if it is published and whole."""
        digest = fingerprint(stage, version=version, config=config, inputs=inputs)
        path = self.root / stage / digest
        if (found := self._damaged(path)) is not None:
            self.say(f"{stage}: damaged ({found}): {path} is not used")
        return self._published(stage, digest)

    def estimate_seconds(self, stage: str, *, work: float) -> float | None:
        """Estimate a build's wall time from this store's earlier builds.

        Returns:
            Seconds; None if there was no build of at least a tenth of this one's work: of a shorter
            one's time, most goes into loading.
        """
        rates = [
            record["seconds"] / record["work"]
            for record in self.records(stage)
            if record.get("work") and record["work"] * _EXTRAPOLATED >= work
        ]
        return work * sorted(rates)[len(rates) // 2] if rates else None

    def records(self, stage: str = "*") -> list[dict[str, Any]]:
        """Return the artifact.json of every published artifact, with its `path`."""
        found = []
        for file in sorted(self.root.glob(f"{stage}/*/{RECORD}")):
            if file.parent.suffix == "":
                with contextlib.suppress(ValueError):
                    found.append(read_record(file.parent) | {"path": str(file.parent)})
        return found

    def lock_path(self, stage: str, digest: str) -> Path:
        """Where the lock of one artifact lies."""
        return self.root / stage / ".locks" / f"{digest}.lock"

    def partial_path(self, stage: str, digest: str) -> Path:
        """Where the unfinished work on one artifact lies."""
        return self.root / stage / f"{digest}.partial"

    def _published(self, stage: str, digest: str) -> Artifact | None:
        """Return a published artifact; None if there is none, or if it is damaged."""
        path = self.root / stage / digest
        try:
            record = read_record(path)
            if (found := self._check(path, record)) is not None:
                raise ValueError(found)
        except ValueError:
            return None
        with contextlib.suppress(OSError):
            os.utime(path / RECORD)  # `gc --unused-for` frees what no run asked for lately
        reused = digest not in self._fresh
        return Artifact(stage, digest, path, reused, record["seconds"], record["peak_memory_mb"])

    def _check(self, path: Path, record: Mapping[str, Any]) -> str | None:
        """Return what is wrong with an artifact's files; looks at them once."""
        key = (str(path), path.stat().st_ino)
        if key not in self._damage:
            self._damage[key] = damage(path, record)
        return self._damage[key]

    def _damaged(self, path: Path) -> str | None:
        """Return what is wrong with a published artifact; None: nothing, or it is not there."""
        if not path.exists():
            return None
        try:
            return self._check(path, read_record(path))
        except ValueError as error:
            return str(error)

    def _set_aside(self, path: Path) -> None:
        found = self._damaged(path)
        aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        os.rename(path, aside)
        self.say(f"{path.parent.name}: damaged ({found}): set aside as {aside}, computed again")

    def _check_writable(self, stage: str) -> None:
        """Refuse a store that is read-only or full before any work is done for it."""
        try:
            probe_folder(self.root / stage, size=2**20)
        except OSError as error:
            raise Refused(
                f"artifacts.root: {self.root} cannot be written ({error.strerror}); free some space"
                " or choose another folder: artifacts.root=FOLDER"
            ) from error

    def _join(self, stage: str, digest: str, build: Callable[[Path], None]) -> Artifact:
        """Build together with rank 0, which holds the lock and publishes."""
        if (found := self._published(stage, digest)) is None:
            partial = self.partial_path(stage, digest)
            partial.mkdir(parents=True, exist_ok=True)
            build(partial)
            while (found := self._published(stage, digest)) is None:
                time.sleep(0.5)
        return found

    def _contribute(
        self, stage: str, digest: str, contribute: Callable[[Path], None] | None
    ) -> Artifact:
        """Contribute, as a rank above 0, to a build of rank 0, and wait for its publication."""
        contributed = contribute is None
        while (found := self._published(stage, digest)) is None:
            partial = self.partial_path(stage, digest)
            if not contributed and contribute is not None and partial.is_dir():
                with contextlib.suppress(FileNotFoundError):  # finished and published meanwhile
                    contribute(partial)
                contributed = True
            time.sleep(0.2)
        return found


def built_at(artifact: Artifact) -> tuple[float, float] | None:
    """Return when building an artifact began and ended, in s since 1970 (UTC).

    The begin is the end less the time that building took: a build that was resumed also waited.
    None for artifacts from before this was recorded.
    """
    record = json.loads((artifact.path / RECORD).read_text())
    if (finished := record.get("finished")) is None:
        return None
    return round(finished - record["seconds"], 3), finished


def process_rank() -> int:
    """Return this process's rank as its launcher states it; 0 outside a distributed run."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ and (
            name != "SLURM_PROCID" or int(os.environ.get("SLURM_NTASKS", "1")) > 1
        ):
            return int(os.environ[name])
    # The first rank of a further machine, before it has started its own.
    return int(os.environ.get("NODE_RANK", "0"))
