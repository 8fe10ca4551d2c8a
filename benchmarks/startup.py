"""Cost of `--cfg job` and `--help` relative to a bare Hydra app, which must stay below 1.3.

python benchmarks/startup.py
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BARE = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(config):
    pass

main()
"""


def seconds(command: list[str], *, folder: str) -> float:
    """Measure a command's processor time: wall time would include the machine's other load."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ratio(argument: list[str], *, repeats: int = 9) -> tuple[float, float, float]:
    """Measure clif_exp and bare Hydra in turns.

    Returns:
        Both medians in seconds, and the median of the pairs' ratios.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bare.py").write_text(BARE)
        commands = [
            [sys.executable, "-m", "clif_exp", *argument],
            [sys.executable, "bare.py", *argument],
        ]
        for command in commands:
            seconds(command, folder=folder)  # byte code and disk caches
        pairs = [[seconds(command, folder=folder) for command in commands] for _ in range(repeats)]
    ours, bare = zip(*pairs, strict=True)
    return (
        statistics.median(ours),
        statistics.median(bare),
        statistics.median(a / b for a, b in pairs),
    )


def main() -> None:
    """Print a line for each command."""
    for argument in (["--cfg", "job"], ["--help"]):
        ours, bare, quotient = ratio(argument)
        print(
            f"{' '.join(argument):10s} clif_exp {ours:.2f} s, bare Hydra {bare:.2f} s, ratio"
            f" {quotient:.2f} (at most 1.3)"
        )


if __name__ == "__main__":
    main()
