"""Folders of runs written by hand, as jobs leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "name": "default",
    "seed": 0,
    "method": {"name": "clif"},
    "artifacts": {"root": "${paths.artifacts}", "reuse": True},
    "paths": {"root": ".", "artifacts": "${paths.root}/artifacts"},
    "dataset": {"name": "toonworld", "cast_seed": None},
    "model": {"family": "toonworld", "resolution": 64},
    "augmentation": {"background_share": 0.0, "mix": {"background_share": "${..background_share}"}},
    "diffusion": {"rank": 16, "steps": 800, "target_modules": ["to_q", "to_k"]},
}


def write_run(
    folder: Path,
    *overrides: str,
    metrics: dict[str, float | None] | None = None,
    status: str = "finished",
    **summary: Any,
) -> Path:
    """Write a run's folder; its config follows from overrides such as "diffusion.rank=4"."""
    config = json.loads(json.dumps(CONFIG))
    for override in overrides:
        key, _, text = override.lstrip("+").partition("=")
        # Groups of the command line, and what they set in the config.
        key = {"method": "method.name", "experiment": "name"}.get(key, key)
        *groups, leaf = key.split(".")
        node = config
        for group in groups:
            node = node.setdefault(group, {})
        node[leaf] = yaml.safe_load(text)
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    content = {
        "experiment": config["name"],
        "method": config["method"]["name"],
        "model": "toonworld",
        "dataset": "toonworld",
        "seed": config["seed"],
        "status": status,
        "stages": {},
        "metrics": metrics or {},
        "error": None,
    }
    (folder / "summary.json").write_text(json.dumps(content | summary))
    return folder


def write_sweep(root: Path, jobs: dict[tuple[str, ...], dict[str, float | None]]) -> Path:
    """Write a sweep: the overrides of each job -> its metrics."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "multirun.yaml").write_text("hydra: {}\n")
    for overrides, metrics in jobs.items():
        write_run(root / ",".join(overrides), *overrides, metrics=metrics)
    return root
