"""The peak of this process's memory."""

from __future__ import annotations

import contextlib
from pathlib import Path


def reset_peak_memory() -> None:
    """Start the high-water mark of resident memory again (Linux only)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Return the highest resident memory since `reset_peak_memory`, MiB.

    On systems without /proc: since the process began.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024), 1)
