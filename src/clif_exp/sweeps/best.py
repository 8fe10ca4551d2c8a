"""The best settings of a search as an experiment's config."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from clif_exp.runs.directory import relative

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

# What the search was told besides settings: where, how shown, by which search.
_NOT_SETTINGS = {
    "artifacts", "callbacks", "hparams_search", "logger", "name", "num_workers", "objective",
    "paths", "pruning",
}  # fmt: skip

_HEADER = """\
# @package _global_
# {found}.
#   mkdir -p my_configs/experiment && cp {file} my_configs/experiment/{name}.yaml
#   python -m clif_exp "hydra.searchpath=[file://$PWD/my_configs]" +experiment={name}
# (In a checkout conf/experiment/ does as well, without the search path.) Cost: as that trial.
# Expect: other numbers than the search's. Its own settings, such as its cast and prompts for
# tuning, are not in here: reported numbers must not use those.
"""


def experiment(overrides: Sequence[str], *, found: str, file: Path, loader: ConfigLoader) -> str:
    """Write a job's overrides as an experiment.

    Args:
        overrides: of the best job.
        found: what it reached, in a sentence without its full stop.
        file: where the text will be.
        loader: Hydra's, which knows what is a group.
    """
    name = "best_" + re.sub(r"[^\w.-]+", "_", file.parent.name)[:50]
    added: list[Any] = []
    chosen: list[Any] = []
    settings: dict[str, Any] = {"name": name}
    removed = []
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
        key = override.key_or_group
        if key.replace("/", ".").split(".")[0] in _NOT_SETTINGS:
            continue
        if override.is_delete():
            removed.append(override.input_line)
        elif loader.get_group_options(key):
            (added if override.is_add() else chosen).append(_choice(override))
        else:
            _put(settings, key.split("."), override.value())
    body: dict[str, Any] = {"defaults": added + chosen} if added or chosen else {}
    header = _HEADER.format(found=found, file=relative(file), name=name)
    if removed:
        header += f"# Not in here, to be given on the command line: {' '.join(map(str, removed))}\n"
    text = yaml.safe_dump(body | settings, sort_keys=False, allow_unicode=True, width=100)
    return header + text


def _choice(override: Override) -> Any:
    """Write the choice of a group as an entry of a defaults list."""
    if override.is_add():  # a group that the config itself does not list: experiments
        return f"/{override.key_or_group}/{override.value()}"
    package = f"@{override.package}" if override.package else ""
    return {f"override /{override.key_or_group}{package}": override.value()}


def _put(settings: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for part in parents:
        settings = settings.setdefault(part, {})
    settings[last] = value
