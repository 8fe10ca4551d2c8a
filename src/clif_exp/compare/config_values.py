"""A config as flat settings: "diffusion.rank" -> 16."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from clif_exp.compare.run import Scalar
from clif_exp.secrets import without_secrets

_REFERENCE = re.compile(r"\$\{(\.*)([\w.]+)\}")
_DEEPEST = 10  # references to references
_OF_ONE_CALL = ("hydra", "pruning")  # how a job was started, and which trial of a search it was


def flat_settings(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """Flatten a config that Hydra has written, and follow its references.

    OmegaConf does the same in 20 times the time, which counts with hundreds of runs. What only it
    can resolve (`${oc.env:NAME}`) stays as it is written.

    Args:
        config: content of `.hydra/config.yaml`, or a composed config.

    Returns:
        Settings in the config's order, secrets hidden; lists and empty mappings as YAML.
    """
    config = {key: value for key, value in config.items() if key not in _OF_ONE_CALL}
    flat = dict(_leaves(without_secrets(config), ()))
    return {key: _followed(value, key, flat) for key, value in flat.items()}


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Scalar]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, (*path, str(key)))
    elif node is None or isinstance(node, str | int | float):
        yield ".".join(path), node
    else:
        text = yaml.safe_dump(node, default_flow_style=True, width=10**9, allow_unicode=True)
        yield ".".join(path), text.strip()


def _followed(value: Scalar, key: str, flat: Mapping[str, Scalar], depth: int = 0) -> Scalar:
    """Return a value with its references replaced; `key` is where it stands."""
    if not isinstance(value, str) or "${" not in value or depth > _DEEPEST:
        return value
    if (whole := _REFERENCE.fullmatch(value)) and (target := _target(whole, key)) in flat:
        return _followed(flat[target], target, flat, depth + 1)

    def text(match: re.Match[str]) -> str:
        target = _target(match, key)
        return str(_followed(flat.get(target, match[0]), target, flat, depth + 1))

    return _REFERENCE.sub(text, value)


def _target(reference: re.Match[str], key: str) -> str:
    """Return the full key of a reference: one dot means beside the key, two one level up."""
    dots, name = len(reference[1]), reference[2]
    return ".".join([*key.split(".")[:-dots], name]) if dots else name
