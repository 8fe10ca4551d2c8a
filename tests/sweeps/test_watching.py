"""What a terminal shows of a sweep."""

from __future__ import annotations

import io

from rich.console import Console

from clif_exp.sweeps.watching import Watch


def test_a_sweep_with_nothing_left_to_do_ends_well_in_a_terminal():
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True)
    Watch([], seconds=0.0, objective=None, console=console).close()
    assert "\x1b[?25h" in shown.getvalue(), "the cursor is back"
