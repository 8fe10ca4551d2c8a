"""The page's cross-attention maps, gathered from what each model's artifact holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clif_exp.artifacts.files import read_jsonl
from clif_exp.reporting.images import Tile
from clif_exp.reporting.sections import Rows

MODELS = {
    "attention_class_word": "base model, class words",
    "attention_stage1": "base model, stage 1's embeddings",
    "attention": "customised model",
}
"""Artifact -> who drew it."""


def attention_rows(artifacts: Mapping[str, Path]) -> dict[str, Rows]:
    """Per prompt one row for each model: its image, and the map of each concept over it."""
    found: dict[str, Rows] = {}
    titles: dict[str, str] = {}
    for artifact, model in MODELS.items():
        folder = artifacts.get(artifact)
        for line in read_jsonl(folder / "attention.jsonl") if folder else []:
            image = Tile(folder / line["file"], line["prompt"], _overlap(line["overlap"]))
            maps = [
                Tile(
                    folder / files[str(line["side"])], f"<{name}>", f"peak {line['peak'][name]:.2f}"
                )
                for name, files in line["heat"].items()
            ]
            found.setdefault(line["prompt_id"], []).append((model, [image, *maps]))
            titles[line["prompt_id"]] = line["prompt"]  # the last model's, by names
    return {titles[prompt]: rows for prompt, rows in found.items()}


def _overlap(value: float | None) -> str:
    return "" if value is None else f"overlap {value:.2f}"
