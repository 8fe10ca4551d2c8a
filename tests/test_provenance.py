"""What a run notes of where its numbers come from."""

from __future__ import annotations

import shlex
import subprocess
import sys

from clif_exp.artifacts.provenance import _gpu, describe_run


def test_the_command_can_be_typed_again_and_holds_no_secret(monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "quite-secret-1234")
    overrides = ["seed=1", "dataset.names=[milo, otto]", "logger.wandb.project=quite-secret-1234"]
    found = describe_run(overrides)
    assert set(found) == {"command", "started", "commit", "hardware", "versions"}
    assert shlex.split(found["command"])[:5] == ["python", "-m", "clif_exp", *overrides[:2]]
    assert "quite-secret" not in str(found)
    assert "torch " in found["versions"]


def test_a_trials_command_says_nothing_of_its_searchs_storage():
    found = describe_run(["seed=1", "pruning.trial={storage:/home/me/study.journal,number:3}"])
    assert found["command"] == "python -m clif_exp seed=1"


def test_a_gpu_is_named_as_the_driver_does(tmp_path):
    file = tmp_path / "information"
    file.write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 0\n")
    assert _gpu(file) == "NVIDIA H100 80GB HBM3"
    assert _gpu(tmp_path / "gone") == "an NVIDIA GPU"


def test_noting_it_imports_no_library_of_the_run():
    code = "import sys; from clif_exp.artifacts.provenance import describe_run; describe_run([])"
    code += "; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
