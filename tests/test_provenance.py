"""What a run notes of where its numbers come from."""

from __future__ import annotations

import shlex
import subprocess
import sys

from clif_exp.artifacts.provenance import describe_run


def test_the_command_can_be_typed_again_and_holds_no_secret(monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "quite-secret-1234")
    overrides = ["seed=1", "dataset.names=[milo, otto]", "logger.wandb.project=quite-secret-1234"]
    found = describe_run(overrides)
    assert set(found) == {"command", "started", "commit", "hardware", "versions"}
    assert shlex.split(found["command"])[:5] == ["python", "-m", "clif_exp", *overrides[:2]]
    assert "quite-secret" not in str(found)
    assert "torch " in found["versions"]


def test_noting_it_imports_no_library_of_the_run():
    code = "import sys; from clif_exp.artifacts.provenance import describe_run; describe_run([])"
    code += "; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
