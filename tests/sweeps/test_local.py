"""Ctrl-C where it would be taken for something else."""

from __future__ import annotations

import signal

import pytest

from clif_exp.sweeps.local import ctrl_c_afterwards


@pytest.fixture
def handler(request):
    """Handle SIGINT as asked, and afterwards as before."""
    before = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("handler", [signal.default_int_handler], indirect=True)
def test_ctrl_c_waits_until_a_config_is_composed(handler):
    done = []

    def compose():
        with ctrl_c_afterwards():
            signal.raise_signal(signal.SIGINT)
            done.append("composed")

    with pytest.raises(KeyboardInterrupt):
        compose()
    assert done == ["composed"]
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN], indirect=True)
def test_ctrl_c_that_a_shell_has_ignored_stays_ignored(handler):
    with ctrl_c_afterwards():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == handler
