"""What a pipeline's scheduler says, read before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.spec import pipeline_folder

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels


def scheduler_config(spec: BaseModels) -> dict[str, Any]:
    """Return the scheduler's config, `_class_name` included."""
    file = pipeline_folder(spec) / "scheduler" / "scheduler_config.json"
    config: dict[str, Any] = json.loads(file.read_text())
    return config


def prediction_of(config: Mapping[str, Any]) -> str:
    """Return what the U-Net predicts: "epsilon", "v_prediction", "sample" or "flow_prediction".

    Args:
        config: of the pipeline's scheduler, `_class_name` included.

    Raises:
        ValueError: it says something else.
    """
    flow = str(config.get("_class_name", "")).startswith("FlowMatch")
    kind = "flow_prediction" if flow else config.get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction", "sample", "flow_prediction"):
        known = "epsilon, v_prediction, sample and flow_prediction"
        raise ValueError(
            f"model.path: the scheduler's prediction_type is {kind!r}; known are {known}."
        )
    return kind
