"""The trials that the methods were set by stay what was tried, whatever their configs say since."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from support import default_config

TRIALS = yaml.safe_load((Path(__file__).parents[2] / "experiments/tuning/trials.yaml").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("method", TRIALS["methods"])
def test_no_two_trials_of_a_method_are_the_same(method):
    stated = TRIALS["methods"][method]
    common = shlex.split(f"{TRIALS['common']} {TRIALS[stated['regime']]}")
    seen: dict[str, str] = {}
    for name, overrides in stated["trials"].items():
        config = default_config(f"method={method}", *common, *shlex.split(overrides))
        described = repr(config.plain())
        assert seen.setdefault(described, name) == name
