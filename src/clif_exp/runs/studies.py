"""Where a search's study is kept: its sweep and its jobs open it. Needs the optional Optuna."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def open_storage(location: str) -> BaseStorage:
    """Open a study's file, which is made if it does not exist.

    Args:
        location: a `sqlite:///` URL, or a journal file.
    """
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if location.startswith("sqlite:"):
        # Several processes write: a writer waits for the others instead of failing.
        return RDBStorage(location, engine_kwargs={"connect_args": {"timeout": 60}})
    return JournalStorage(JournalFileBackend(location))
