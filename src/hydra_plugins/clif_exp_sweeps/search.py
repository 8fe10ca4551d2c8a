"""Hydra's way to this package's searches; the work is done in `clif_exp.sweeps.search`.

Hydra imports every plugin at every start: nothing heavy may be imported here.
"""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Optuna chooses what each job tries; the same command again goes on with the same study."""

    def __init__(self, *, keep: dict[str, Any] | None = None, **settings: Any) -> None:
        """Remember what the config states.

        Args:
            keep: `clif_exp.sweeps.settings.KeepSettings`; None keeps nothing besides the trials.
            settings: `clif_exp.sweeps.settings.SearchSettings`.
        """
        self.keep, self.settings = keep, settings

    def setup(
        self,
        *,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
    ) -> None:
        """Check the search, find its folder, into which some launchers write, and the launcher."""
        from clif_exp.sweeps.launchers import start_launcher
        from clif_exp.sweeps.results import check_keep
        from clif_exp.sweeps.search import prepare

        self.config = config
        self.search, ends = prepare(self.settings, config=config, context=hydra_context)
        self.kept = check_keep(self.keep)
        self.launcher = start_launcher(
            config, ends, context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the trials that are left to do."""
        from clif_exp.runs.composing import given_overrides
        from clif_exp.sweeps.search import run_search

        assert self.config is not None and self.launcher is not None
        assert arguments == given_overrides(self.config.hydra)["task"], "what `setup` has read"
        return run_search(self.search, launcher=self.launcher, kept=self.kept)
