"""Settings of a job that no room owns: where it writes, its method, its trackers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clif_exp.methods.settings import MergingSettings
from clif_exp.settings import Name, Strict


class PathSettings(Strict):
    """Where a run writes.

    Attributes:
        root: parent folder of the others.
        artifacts: the store's folder.
        runs: parent of runs' folders.
        sweeps: parent of sweeps' folders.
    """

    root: str
    artifacts: str
    runs: str
    sweeps: str


class ArtifactSettings(Strict):
    """The artifact store.

    Attributes:
        root: its folder.
        reuse: False computes everything again.
    """

    root: str
    reuse: bool


class MethodSettings(Strict):
    """What defines a method besides the rooms' settings.

    Attributes:
        name: as in the result tables.
        contrastive: run stage 1; otherwise the concept embeddings start from the class words.
        diffusion: run stage 2; otherwise the untouched base model draws from stage 1's embeddings.
        merging: stage 2 customises each concept apart, and this merges them; None: all together.
    """

    name: Name
    contrastive: bool
    diffusion: bool
    merging: Annotated[MergingSettings, Field(discriminator="kind")] | None

    @model_validator(mode="after")
    def _something_trains(self) -> Self:
        if not self.contrastive and not self.diffusion:
            raise ValueError(
                "diffusion: found false with method.contrastive=false: nothing would train; set one"
                " of them to true"
            )
        if self.merging is not None and not self.diffusion:
            raise ValueError(
                f"merging: found kind={self.merging.kind!r} with method.diffusion=false: there is"
                " nothing to merge; set method.merging=null"
            )
        return self


class WandbSettings(Strict):
    """Weights & Biases, in its own terms.

    Attributes:
        mode: offline: into the run's folder, from where `wandb sync` sends it.
        project: the project's name.
        entity: user or team; None: the key's own.
        group: of runs; None: the sweep's name, or the run's.
        tags: besides method, model and dataset.
        max_delay: seconds that a network which hangs may hold up a run in all.
    """

    mode: Literal["offline", "online"]
    project: str
    entity: str | None
    group: str | None
    tags: list[str]
    max_delay: Annotated[float, Field(ge=1, le=3600)]


class TensorBoardSettings(Strict):
    """TensorBoard.

    Attributes:
        folder: below the run's folder.
    """

    folder: str


class LoggerSettings(Strict):
    """Trackers that get the curves besides the run's folder; None: not this one."""

    wandb: WandbSettings | None
    tensorboard: TensorBoardSettings | None


class CallbackSettings(Strict):
    """What a run shows.

    Attributes:
        progress: progress bars.
    """

    progress: bool
