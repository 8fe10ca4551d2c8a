"""`python -m clif_exp.artifacts ls|gc|verify`: what the store holds, freeing its space, checks."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from clif_exp.artifacts.files import GARBAGE, remove_folder
from clif_exp.artifacts.integrity import RECORD, damage, read_record
from clif_exp.artifacts.locks import is_free
from clif_exp.artifacts.progress import track

_ON_REQUEST = ("partial", "damaged")  # states that `gc` removes if told to
# what the store itself names: never touch anything else that lies in the folder
_OURS = re.compile(rf"[0-9a-f]{{64}}(\.partial|\.damaged-.*)?$|{re.escape(GARBAGE)}")
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Entry:
    """One folder of the store: `state` is finished, damaged, partial, building or garbage."""

    stage: str
    path: Path
    state: str
    megabytes: float
    age_seconds: float
    build_seconds: float | None


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m clif_exp.artifacts", description=__doc__)
    parser.add_argument(
        "--root", type=Path, default=Path("artifacts"), help="the store (default: artifacts)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    ls = commands.add_parser("ls", help="list what is there")
    gc = commands.add_parser(
        "gc", help="remove garbage; with options also finished or partial artifacts"
    )
    gc.add_argument(
        "--unused-for",
        metavar="AGE",
        type=_age,
        help="also finished artifacts that no run used during AGE (30d, 12h)",
    )
    gc.add_argument(
        "--partial", action="store_true", help="also work that a killed run left and could resume"
    )
    gc.add_argument(
        "--damaged", action="store_true", help="also damaged artifacts, set aside or not"
    )
    gc.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    verify = commands.add_parser(
        "verify", help="compare every file with the digest it was published with"
    )
    for command in (ls, gc, verify):
        command.add_argument("--root", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        command.add_argument("--stage", help="only this stage")
    options = parser.parse_args(arguments)
    if not options.root.is_dir():
        parser.error(
            f"--root: {options.root} is not a folder; give the store's folder (the run's"
            " artifacts.root)"
        )
    found = scan(options.root)
    if not found and any(options.root.iterdir()) and not any(options.root.glob("*/.locks")):
        parser.error(
            f"--root: {options.root} holds no artifacts; give the store's folder (the run's"
            " artifacts.root)"
        )
    entries = [entry for entry in found if options.stage in (None, entry.stage)]
    if options.command == "ls":
        _print_table(entries)
    elif options.command == "verify":
        return _verify(entries)
    else:
        states = {"garbage"} | {state for state in _ON_REQUEST if getattr(options, state)}
        _collect(entries, states, unused_for=options.unused_for, dry_run=options.dry_run)
    return 0


def scan(root: Path) -> list[Entry]:
    """List a store's artifacts, least recently used first, and nothing that is not the store's.

    Runs may work in the store meanwhile: what one of them removes is left out, and what it
    publishes is listed under its final name.
    """
    entries = {}
    for stage in sorted(folder for folder in Path(root).iterdir() if folder.is_dir()):
        for listed in filter(lambda path: _OURS.match(path.name), stage.iterdir()):
            for path in (listed, listed.with_suffix("")):
                with contextlib.suppress(FileNotFoundError):
                    entries[path] = _entry(stage.name, path)
                    break
    return sorted(entries.values(), key=lambda entry: -entry.age_seconds)


def _entry(stage: str, path: Path) -> Entry:
    record, seconds = path / RECORD, None
    if path.suffix == ".partial":
        lock = path.parent / ".locks" / f"{path.stem}.lock"
        state = "partial" if is_free(lock) else "building"
    elif re.fullmatch("[0-9a-f]{64}", path.name):
        try:
            state, seconds = "finished", read_record(path)["seconds"]
        except ValueError:
            state = "damaged"
    else:
        state = "garbage" if path.name.startswith(GARBAGE) else "damaged"
    touched = (record if record.exists() else path).stat().st_mtime
    return Entry(stage, path, state, _size(path) / 2**20, time.time() - touched, seconds)


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all below a folder; what vanishes meanwhile has none."""
    if not path.is_dir():
        return path.stat().st_size
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.stat(os.path.join(folder, name)).st_size
    return size


def _verify(entries: list[Entry]) -> int:
    """Print what is wrong with published artifacts; returns 1 if anything is, else 0."""
    published = [e for e in entries if e.state in ("finished", "damaged") and not e.path.suffix]
    files = unlisted = damaged = 0
    for entry in track(published, "verifying"):
        try:
            record = read_record(entry.path)
            found = damage(entry.path, record)
        except ValueError as error:
            found = str(error)
        else:
            files += len(record.get("files", ()))
            unlisted += "files" not in record
        if found is not None:
            damaged += 1
            print(f"{entry.path}: {found}")
    known = f"{len(published)} artifacts, {files} files: {damaged} damaged"
    if unlisted:
        known += f"; {unlisted} of an earlier version list no files and could not be checked"
    if damaged:
        known += ". A run that needs one sets it aside and computes it again"
    print(known)
    return 1 if damaged else 0


def _collect(
    entries: list[Entry], states: set[str], *, unused_for: float | None, dry_run: bool
) -> None:
    freed = 0.0
    for entry in entries:
        old = unused_for is not None and entry.age_seconds > unused_for
        if entry.state in states or (entry.state == "finished" and old):
            print(
                f"{'would remove' if dry_run else 'removed'} {entry.path} ({entry.state},"
                f" {entry.megabytes:.1f} MB)"
            )
            freed += entry.megabytes
            if not dry_run:
                if entry.path.is_dir():
                    remove_folder(entry.path)
                else:
                    entry.path.unlink(missing_ok=True)
    print(
        f"{'would free' if dry_run else 'freed'} {freed:.1f} MB of"
        f" {sum(entry.megabytes for entry in entries):.1f} MB"
    )


def _print_table(entries: list[Entry]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for column, justify in (
        ("stage", "left"),
        ("fingerprint", "left"),
        ("state", "left"),
        ("MB", "right"),
        ("built in", "right"),
        ("last used", "right"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for entry in entries:
        built = "" if entry.build_seconds is None else f"{entry.build_seconds:.0f} s"
        table.add_row(
            entry.stage,
            entry.path.name[:12],
            entry.state,
            f"{entry.megabytes:.1f}",
            built,
            _ago(entry.age_seconds),
        )
    Console().print(table)
    print(f"{len(entries)} artifacts, {sum(entry.megabytes for entry in entries):.1f} MB")


def _ago(seconds: float) -> str:
    for unit in ("w", "d", "h", "m"):
        if seconds >= 2 * _UNITS[unit]:
            return f"{seconds / _UNITS[unit]:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _age(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no age; write a number and m, h, d or w, as in 30d"
        )
    return float(match[1]) * _UNITS[match[2]]


if __name__ == "__main__":
    raise SystemExit(main())
