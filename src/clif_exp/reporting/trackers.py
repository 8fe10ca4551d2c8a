"""The report's table and grids for W&B and TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def log_to_trackers(
    loggers: Sequence[Any], *, metrics: Mapping[str, float | None], grids: Sequence[Path]
) -> None:
    """Log the final metrics and the sample grids to the loggers that can show them.

    Args:
        loggers: Lightning loggers; only W&B's and TensorBoard's are used.
        metrics: flat metrics; those without a value are left out.
        grids: PNG files.
    """
    known = {name: float(value) for name, value in metrics.items() if value is not None}
    for logger in loggers:
        kind = type(logger).__name__
        if kind == "WandbLogger":
            import wandb

            images = {f"samples/{grid.stem}": wandb.Image(str(grid)) for grid in grids}
            table = wandb.Table(
                columns=["metric", "value"], data=[[name, value] for name, value in known.items()]
            )
            logger.experiment.log({**known, **images, "metrics": table})
            logger.experiment.summary.update(known)
        elif kind == "TensorBoardLogger":
            import numpy as np
            from PIL import Image

            for name, value in known.items():
                logger.experiment.add_scalar(name, value)
            for grid in grids:
                logger.experiment.add_image(
                    f"samples/{grid.stem}",
                    np.asarray(Image.open(grid).convert("RGB")),
                    dataformats="HWC",
                )
            logger.experiment.flush()
