"""Settings of both training stages, conf/trainer: how training runs, not what it computes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clif_exp.settings import SPEED, Strict


class TrainerSettings(Strict):
    """Lightning's trainer. Precision and the number of ranks change results in the last digits.

    Attributes:
        accelerator: Lightning's name for the hardware.
        devices: devices (or CPU processes) per machine.
        num_nodes: machines.
        strategy: Lightning's name for it.
        precision: Lightning's name for it, or "auto": bf16-mixed where the hardware multiplies in
            bf16, else 32-true.
        max_time: seconds that one training stage may take in this process; None: no limit.
        checkpoint_every_n_steps: steps that a killed run loses at most.
        num_workers: data loader processes.
        progress: show a progress bar.
    """

    accelerator: Annotated[Literal["cpu", "gpu", "cuda", "auto"], SPEED]
    devices: Annotated[int, Field(ge=1)]
    num_nodes: Annotated[int, Field(ge=1)]
    strategy: Annotated[Literal["auto", "ddp", "ddp_find_unused_parameters_true"], SPEED]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    max_time: Annotated[Annotated[float, Field(gt=0)] | None, SPEED]
    checkpoint_every_n_steps: Annotated[int, Field(ge=1), SPEED]
    num_workers: Annotated[int, Field(ge=0), SPEED]
    progress: Annotated[bool, SPEED]

    @property
    def ranks(self) -> int:
        """Processes that train together, over all machines."""
        return self.devices * self.num_nodes

    @property
    def device(self) -> Literal["cuda", "cpu"]:
        """The torch device type of everything that this run computes."""
        if self.accelerator == "auto":
            import torch

            return "cuda" if torch.cuda.is_available() else "cpu"
        return "cpu" if self.accelerator == "cpu" else "cuda"

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if self.strategy == "auto" and self.ranks > 1:
            raise ValueError(
                f"strategy: found 'auto' for {self.ranks} devices; use trainer=ddp or"
                " trainer=ddp_sim"
            )
        if self.precision == "16-mixed" and self.accelerator == "cpu":
            raise ValueError(
                "precision: found '16-mixed' on the CPU; use bf16-mixed, 32-true or auto"
            )
        return self
