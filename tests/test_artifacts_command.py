"""`python -m clif_exp.artifacts` on stores that are wrong, and on one that a run works in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from clif_exp.artifacts.__main__ import main as command_line
from clif_exp.artifacts.__main__ import scan

PUBLISHER = """
import sys
from pathlib import Path
from clif_exp.artifacts.store import ArtifactStore

def build(out):
    for index in range(40):
        (out / f"{index}.txt").write_text("done")

for index in range(300):
    ArtifactStore(Path(sys.argv[1])).get_or_build(
        "stage", version=1, config={"a": index}, inputs={}, build=build
    )
    print(index, flush=True)
"""


def test_a_store_is_listed_while_a_run_publishes_in_it(tmp_path):
    """What was there when the listing began is in it: by its hash, if it was published since."""
    command = [sys.executable, "-c", PUBLISHER, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as publisher:
        publisher.stdout.readline()  # the first one is there
        listings = 0
        while publisher.poll() is None:
            there = {path.stem for path in (tmp_path / "stage").iterdir()} - {".locks"}
            assert there <= {entry.path.stem for entry in scan(tmp_path)}
            listings += 1
    assert publisher.returncode == 0
    assert listings > 3, "it was listed while it worked"
    assert {entry.state for entry in scan(tmp_path)} == {"finished"}


def test_a_wrong_store_or_age_is_refused(tmp_path, capsys):
    for arguments in (
        ["ls", "--root", str(tmp_path / "none")],
        ["gc", "--root", str(tmp_path), "--unused-for", "soon"],
    ):
        with pytest.raises(SystemExit) as stop:
            command_line(arguments)
        assert stop.value.code == 2
    assert "30d" in capsys.readouterr().err
