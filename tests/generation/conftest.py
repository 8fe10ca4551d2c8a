"""Tiny untrained models of Stable Diffusion's classes, written once."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory) -> dict:
    """Keyword arguments of a `BaseModels` for a tiny SD 1.5."""
    source = importlib.util.spec_from_file_location(
        "tiny_models", Path(__file__).parents[1] / "tiny_models.py"
    )
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module.write_tiny_backbone(tmp_path_factory.mktemp("tiny"), family="sd15")


@pytest.fixture(scope="session")
def tiny_sd15(tiny_backbone) -> str:
    return tiny_backbone["path"]
