"""What tests of several rooms use."""

from __future__ import annotations

from functools import cache
from typing import Any

from clif_exp.runs.composing import compose
from clif_exp.runs.config import Config


@cache
def default_config(*overrides: str) -> Config:
    """The shipped config, composed once."""
    return compose(*overrides)


def settings(room: str, **changes: Any) -> Any:
    """A room's settings as the YAML states them, but for `changes`, which are checked as any are.

    Args:
        room: a config group, such as "diffusion"; a dot goes further down ("augmentation.region").
        changes: by the YAML's keys.
    """
    found: Any = default_config()
    for name in room.split("."):
        found = getattr(found, "global_" if name == "global" else name)
    return type(found).model_validate(found.model_dump(by_alias=True) | changes)
