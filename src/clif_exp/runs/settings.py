"""Settings of a job that no room owns: where it writes, which method it is, who watches it."""

from __future__ import annotations

from typing import Literal

from clif_exp.settings import Name, Strict


class PathSettings(Strict):
    """Where things are written.

    Attributes:
        root: of the others.
        artifacts: the store.
        runs: runs' folders.
        sweeps: sweeps' folders.
    """

    root: str
    artifacts: str
    runs: str
    sweeps: str


class ArtifactSettings(Strict):
    """The store.

    Attributes:
        root: its folder.
        reuse: False computes everything again.
    """

    root: str
    reuse: bool


class MethodSettings(Strict):
    """What makes a method beside the rooms' settings.

    Attributes:
        name: as in the tables.
        contrastive: stage 1 runs; else concept embeddings start from the class words.
    """

    name: Name
    contrastive: bool


class WandbSettings(Strict):
    """Weights & Biases; its own words."""

    mode: Literal["offline", "online"]
    project: str
    entity: str | None
    group: str | None
    tags: list[str]


class TensorBoardSettings(Strict):
    """TensorBoard.

    Attributes:
        folder: below the run's folder.
    """

    folder: str


class LoggerSettings(Strict):
    """Where curves and numbers go besides the run's folder; None: nowhere."""

    wandb: WandbSettings | None
    tensorboard: TensorBoardSettings | None


class CallbackSettings(Strict):
    """What watches a run.

    Attributes:
        progress: progress bars.
    """

    progress: bool
