"""Tells how a sweep is getting on: a line for every job that ends, one live line below them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from clif_exp.runs.directory import SUMMARY, UNFINISHED, relative
from clif_exp.runs.execution import duration
from clif_exp.sweeps.jobs import Job

_POLL_SECONDS = 0.5
STYLES = {
    "finished": "green",
    "pruned": "blue",
    "failed": "red",
    "refused": "red",
    "killed": "yellow",
}


class Watch:
    """Reads the jobs' summary.json, wherever and by whatever launcher they run.

    Attributes:
        ended: jobs that have ended, with their status.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        seconds: float,
        objective: str | None,
        console: Console,
        total: int | None = None,
    ) -> None:
        """Begin before the first job starts.

        Args:
            jobs: those to be started.
            seconds: about how long their stages take, one after the other.
            objective: metric shown beside a finished job.
            console: where to print.
            total: how many there will be, where more are added; None: these.
        """
        self.ended: dict[Job, str] = {}
        self._jobs, self._expected = list(jobs), max(seconds, 1.0)
        self._total = len(self._jobs) if total is None else total
        self._objective, self._console = objective, console
        self._started, self._began = time.monotonic(), time.time()
        self._live: Live | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if console.is_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()

    def add(self, job: Job) -> None:
        """Watch one more job, which is about to start."""
        self._jobs.append(job)

    def follow(self) -> None:
        """Look twice a second from a thread, for launchers that keep this process waiting."""

        def loop() -> None:
            while not self._stop.wait(_POLL_SECONDS):
                self.look()

        self._thread = threading.Thread(target=loop, daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Print what has changed since the last look."""
        running = 0
        for job in tuple(self._jobs):
            if job in self.ended:
                continue
            summary = self.fresh(job)
            if summary is None:
                continue
            if summary.get("status") == "killed" and summary.get("error") == UNFINISHED:
                running += 1
                continue
            self.ended[job] = str(summary.get("status"))
            self._report(job, summary)
        if self._live is not None:
            self._live.update(Text(self._line(running)), refresh=True)

    def close(self) -> None:
        """Look a last time, and take the live line away."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self.look()
        finally:
            if self._live is not None:
                self._live.stop()

    def fresh(self, job: Job) -> dict[str, object] | None:
        """Return a job's summary.json if it was written since this sweep began."""
        try:
            if (job.folder / SUMMARY).stat().st_mtime < self._began - 2:
                return None
        except OSError:
            return None
        return job.summary() or None

    def _report(self, job: Job, summary: dict[str, object]) -> None:
        status = str(summary["status"])
        line = Text(f"{len(self.ended):>3} of {self._total}  {job.name}  ")
        line.append(status, STYLES.get(status, ""))
        metrics = summary.get("metrics")
        if status == "finished" and self._objective and isinstance(metrics, dict):
            value = metrics.get(self._objective)
            line.append(f"  {self._objective} {'unknown' if value is None else f'{value:.3f}'}")
        self._console.print(line, soft_wrap=True, highlight=False)
        if status not in ("finished", "pruned"):
            kind = "stopped" if status == "killed" else "error"
            for text in str(summary.get("error")).splitlines():
                print(f"clif_exp: {kind}: {job.name}: {text}", file=sys.stderr, flush=True)
            print(f"clif_exp: its output is in {_output(job.folder)}", file=sys.stderr, flush=True)

    def _line(self, running: int) -> str:
        counted = dict.fromkeys(STYLES, 0)
        for status in self.ended.values():
            counted[status] = counted.get(status, 0) + 1
        parts = [f"{counted.pop('finished')} finished", f"{running} running"]
        parts += [f"{number} {status}" for status, number in counted.items() if number]
        parts.append(f"{self._total - running - len(self.ended)} waiting")
        return f"{', '.join(parts)}; about {duration(self._left())} left"

    def _left(self) -> float:
        """Return the seconds left: as expected, corrected by how long the ended jobs took."""
        passed = time.monotonic() - self._started
        by_plan = max(self._expected - passed, 0.0)
        if not self.ended:
            return by_plan
        share = len(self.ended) / self._total
        by_pace = passed / share - passed
        return share * by_pace + (1 - share) * by_plan


def _output(folder: Path) -> str:
    return relative(folder / "output.log")
