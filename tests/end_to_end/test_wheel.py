"""The wheel, in a folder that knows nothing of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that the wheel's content lies in, as an installer would put it."""
    built = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (wheel,) = built.glob("*.whl")
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_runs_in_an_empty_folder(installed, clif_exp):
    where = subprocess.run(
        [sys.executable, "-c", "import clif_exp; print(clif_exp.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(installed)},
    )
    assert str(installed) in where.stdout
    result = clif_exp("debug=fast", fresh=True, PYTHONPATH=str(installed))
    assert result.code == 0 and result.summary()["status"] == "finished", result.errors


def test_the_wheel_carries_the_configs_and_the_models(installed):
    packaged = {
        file.relative_to(installed / "clif_exp").as_posix()
        for file in (installed / "clif_exp").rglob("*")
        if file.is_file()
    }
    for file in (CHECKOUT / "conf").rglob("*.yaml"):
        assert f"conf/{file.relative_to(CHECKOUT / 'conf').as_posix()}" in packaged
    sources = CHECKOUT / "src" / "clif_exp"
    for file in sources.rglob("*"):
        if (
            file.suffix in (".py", ".j2", ".css", ".html", ".safetensors", ".json", ".txt")
            and file.is_file()
        ):
            assert file.relative_to(sources).as_posix() in packaged, file
