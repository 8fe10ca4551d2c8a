"""Composing a config without a command line, for notebooks and tests; what a command line gave."""

from __future__ import annotations

from typing import Any

from clif_exp.runs.config import Config, validate
from clif_exp.runs.messages import composition_error, config_folder


def compose(*overrides: str) -> Config:
    """Compose and check a config as `python -m clif_exp OVERRIDES` does.

    Args:
        overrides: as on the command line: "diffusion.steps=2", "+experiment=clif".

    Returns:
        The validated config.

    Raises:
        ValueError: names the field, what was found and how to fix it.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        try:
            composed: Any = hydra.compose("config", list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(composition_error(error)) from error
    return validate(OmegaConf.to_container(composed, resolve=True, throw_on_missing=True))  # type: ignore[arg-type]


def given_overrides(hydra_config: Any) -> dict[str, list[str]]:
    """Return a command line's overrides, `task` and `hydra`, as they were written.

    An interpolation in them is the job's to resolve; Hydra's own config knows none of its keys.
    """
    from omegaconf import OmegaConf

    given: Any = OmegaConf.to_container(hydra_config.overrides, resolve=False)
    return given
