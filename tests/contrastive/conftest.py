"""Tiny models and plain pictures, written once for the tests of both training stages and the export."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def _tiny_models():
    source = importlib.util.spec_from_file_location("tiny_models", Path(__file__).parents[1] / "tiny_models.py")
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_models():
    return _tiny_models()


@pytest.fixture(scope="session")
def backbones(tmp_path_factory, tiny_models):
    """family -> resolved spec of a tiny model in that family's layout; written on first use."""
    from clif_exp.backbones import BackboneSpec, resolve

    written = {}

    def get(family: str):
        if family not in written:
            root = tmp_path_factory.mktemp(family)
            written[family] = resolve(BackboneSpec(**tiny_models.write_tiny_backbone(root, family=family)))
        return written[family]

    return get


@pytest.fixture(scope="session")
def curated(tmp_path_factory, tiny_models):
    """Two concepts with G, R and M manifests: `concepts` and `manifests`."""
    return tiny_models.write_concepts_and_manifests(tmp_path_factory.mktemp("curated"))
