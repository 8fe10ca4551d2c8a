"""What all tests share: one artifact store per test session, and commands run as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from warm_start import RunningCommand, WarmStarter

# No test may need a network or an account.
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code, what it printed, and its jobs' folders (newest last)."""

    code: int
    output: str
    errors: str
    folders: list[Path]

    def summary(self, index: int = -1) -> dict[str, Any]:
        """One job's summary.json."""
        return json.loads((self.folders[index] / "summary.json").read_text())


def run_clif_exp(
    *arguments: str,
    folder: Path,
    starter: WarmStarter | None = None,
    timeout: float = 900,
    **environment: str,
) -> Result:
    """Run `python -m clif_exp` in a folder: by `starter`, or in a new interpreter."""
    before = set(folder.glob("**/summary.json"))
    if starter is not None:
        completed = starter.run(
            list(arguments),
            folder=folder,
            environment=dict(os.environ | environment),
            timeout=timeout,
        )
    else:
        completed = subprocess.run(
            [sys.executable, "-m", "clif_exp", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | environment,
        )
    # A sweep's folders do not change their names: those written to count as new.
    found = sorted(
        set(folder.glob("**/summary.json")) - before, key=lambda file: file.stat().st_mtime
    )
    folders = [file.parent for file in found if not file.parent.name.startswith(".rank_")]
    return Result(completed.returncode, completed.stdout, completed.stderr, folders)


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the end-to-end tests of all workers: each reuses what the others computed."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "store" / "artifacts"


_CURATION = ("dataset", "segments", "contexts", "augment_G", "augment_R", "augment_M")
# What else does not depend on training.
_BASE_MODELS_OWN = ("image_features", "prior_images", "generation_prior", "generation_class_word")


@pytest.fixture
def store_with_curation(
    tmp_path: Path, shared_store: Path, finished: Result
) -> Callable[..., Path]:
    """Make a store of the test's own that shares the curation of `finished`.

    And the artifacts of the stages that it is given; `drawn=False` leaves out what the untouched
    base model drew.
    """
    assert finished.code == 0

    def make(*stages: str, drawn: bool = True) -> Path:
        store = tmp_path / "store"
        store.mkdir()
        for name in (*_CURATION, *(_BASE_MODELS_OWN if drawn else ()), *stages):
            (store / name).symlink_to(shared_store / name)
        return store

    return make


@pytest.fixture(scope="session")
def base_models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The override that names the base models: none where the package ships them, else random."""
    from clif_exp.base_models.spec import packaged_weights

    if (packaged_weights() / "pipeline" / "model_index.json").is_file():
        return []
    from clif_exp.toonworld.architectures import write_random_weights

    folder = tmp_path_factory.mktemp("weights")
    write_random_weights(folder)
    return [f"model.path={folder}"]


@pytest.fixture(scope="session")
def warm_starter() -> Iterator[WarmStarter]:
    """What starts the program without importing the libraries again."""
    starter = WarmStarter()
    yield starter
    starter.stop()


@pytest.fixture
def clif_exp(
    tmp_path: Path, shared_store: Path, base_models: list[str], request: pytest.FixtureRequest
) -> Callable[..., Result]:
    """Run the program in an empty folder: `clif_exp("debug=fast", store=folder, NAME="value")`.

    It uses the shared store unless another is named (None: its own). `fresh=True` starts a new
    interpreter, for tests of what happens before or while modules are imported.
    """

    def run(
        *arguments: str,
        store: Path | None = shared_store,
        timeout: float = 900,
        fresh: bool = False,
        **environment: str,
    ) -> Result:
        given = [] if store is None else [f"artifacts.root={store}"]
        return run_clif_exp(
            *(*base_models, *arguments, *given),
            folder=tmp_path,
            starter=None if fresh else request.getfixturevalue("warm_starter"),
            timeout=timeout,
            **environment,
        )

    return run


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    shared_store: Path,
    base_models: list[str],
    warm_starter: WarmStarter,
) -> Result:
    """`debug=fast` in the shared store, run once for all tests that compare with it or read it."""
    result = run_clif_exp(
        *(*base_models, "debug=fast", f"artifacts.root={shared_store}"),
        folder=tmp_path_factory.mktemp("finished"),
        starter=warm_starter,
    )
    assert result.code == 0, result.errors
    return result


@pytest.fixture
def start_clif_exp(
    base_models: list[str], warm_starter: WarmStarter
) -> Callable[..., RunningCommand]:
    """Start the program without waiting for its end, for tests that kill it."""

    def start(*arguments: str, folder: Path, store: Path) -> RunningCommand:
        return warm_starter.start(
            [*base_models, *arguments, f"artifacts.root={store}"],
            folder=folder,
            environment=dict(os.environ),
        )

    return start


@pytest.fixture(scope="session")
def tiny_models() -> ModuleType:
    """The module that writes tiny models."""
    import tiny_models

    return tiny_models


@pytest.fixture(scope="session")
def backbones(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: ModuleType
) -> Callable[[str], Any]:
    """family -> resolved spec of a tiny model in that family's layout; written on first use."""
    from clif_exp.base_models.spec import BaseModels, resolve

    written: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in written:
            root = tmp_path_factory.mktemp(family)
            written[family] = resolve(
                BaseModels(**tiny_models.write_tiny_backbone(root, family=family))
            )
        return written[family]

    return get


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory, tiny_models: ModuleType) -> Any:
    """Two concepts with G, R and M manifests: `concepts` and `manifests`."""
    return tiny_models.write_concepts_and_manifests(tmp_path_factory.mktemp("curated"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: a worker takes whole files and must not end with a long one."""
    longest = ["test_sweeps.py", "test_run.py", "test_search.py", "test_ranks.py"]
    longest += [
        "test_bad_input.py",
        "test_readme.py",
        "test_kill.py",
        "test_methods.py",
        "test_datasets.py",
    ]
    longest += ["test_config.py", "test_bad_settings.py", "test_extending.py", "test_resume.py"]
    longest += ["test_benchmarks.py", "test_wheel.py", "test_whole_weights.py", "test_train.py"]
    order = {name: index for index, name in enumerate(longest)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
