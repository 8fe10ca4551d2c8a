"""Jobs in forks: what Ctrl-C ends."""

from __future__ import annotations

import contextlib
import signal
import time
from functools import partial

import pytest

from clif_exp.sweeps.local import run_forked


def test_ctrl_c_ends_a_sweep_even_where_its_exception_is_lost(tmp_path):
    """As in a garbage collector's callback, from which none comes out."""
    before = signal.getsignal(signal.SIGINT)
    ticks = []

    def tick():
        ticks.append(time.monotonic())
        if len(ticks) == 1:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    jobs = [(partial(time.sleep, 20), tmp_path)] * 2
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_forked(jobs, workers=1, tick=tick, ended=lambda _: None)
    assert len(ticks) == 1
    assert time.monotonic() - began < 15, "the job is told to end, not waited for"
    assert signal.getsignal(signal.SIGINT) is before


def test_where_a_shell_has_it_ignored_ctrl_c_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        jobs = [(partial(time.sleep, 0), tmp_path)]
        tick = partial(signal.raise_signal, signal.SIGINT)
        assert run_forked(jobs, workers=1, tick=tick, ended=lambda _: None) == [0]
    finally:
        signal.signal(signal.SIGINT, before)
