"""Where a number came from: the processor, the libraries and the commit of the code."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

from clif_exp.secrets import masked

_VERSIONED = ("clif_exp", "torch", "diffusers", "transformers", "lightning", "peft")
# Instructions that decide how fast this project is on a CPU, best first.
_SUFFIXES = {"amx_bf16": "AMX bf16", "avx512_bf16": "AVX-512 bf16"}


def describe_run(overrides: Sequence[str]) -> dict[str, str]:
    """Return what is needed to make a run's numbers again, as text without secrets.

    Costs some hundredths of a second once per process; imports no library of the run.

    Args:
        overrides: of the job's command line.

    Returns:
        `command`, `commit` (empty outside a checkout), `hardware`, `versions` and `started` (UTC).
    """
    # A search tells its trials where they report to: no part of what they compute, and a path.
    stated = [it for it in overrides if not it.lstrip("+").startswith("pruning.trial=")]
    return {
        "command": masked(shlex.join(["python", "-m", "clif_exp", *stated])),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **_of_process(),
    }


@cache  # a process runs the code that it has imported, whatever is committed meanwhile
def _of_process() -> dict[str, str]:
    return {
        "commit": git_commit(digits=12) or "",
        "hardware": hardware(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def hardware() -> str:
    """Name processor, cores and bf16 support ("AMD EPYC, 2 cores, AVX-512 bf16"), and NVIDIA GPUs.

    GPUs as the driver lists them: asking torch would cost its import.
    """
    info = Path("/proc/cpuinfo")
    lines = (
        dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        if info.exists()
        else {}
    )
    facts = {key.strip(): value.strip() for key, value in lines.items()}
    known = facts.get("flags", "").split()
    bf16 = next((words for flag, words in _SUFFIXES.items() if flag in known), "no bf16")
    gpus = [_gpu(file) for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    name = facts.get("model name") or platform.processor()
    return ", ".join([name, f"{os.cpu_count()} cores", bf16, *gpus])


def _gpu(information: Path) -> str:
    with contextlib.suppress(OSError):
        for line in information.read_text().splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return "an NVIDIA GPU"


def git_commit(*, digits: int = 40) -> str | None:
    """Return the checkout's commit, with "+" if tracked files differ; None outside a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        output = subprocess.run(
            [
                "git",
                "-C",
                str(root),
                "describe",
                "--always",
                f"--abbrev={digits}",
                "--dirty=+",
                "--exclude=*",
            ],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return output.stdout.strip()
    return None


def versions() -> dict[str, str]:
    """Return the versions of this package and of the libraries that results depend on."""
    found = {}
    for name in _VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
