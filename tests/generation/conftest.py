"""Tiny untrained models of Stable Diffusion's classes, written once."""

from __future__ import annotations

import pytest

from tiny_models import write_tiny_backbone


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory) -> dict:
    """Keyword arguments of a `BaseModels` for a tiny SD 1.5."""
    return write_tiny_backbone(tmp_path_factory.mktemp("tiny"), family="sd15")


@pytest.fixture(scope="session")
def tiny_sd15(tiny_backbone) -> str:
    return tiny_backbone["path"]
