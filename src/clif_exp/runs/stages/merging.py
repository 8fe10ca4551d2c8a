"""Wiring of what makes one model of concepts that were customised apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.store import Artifact
from clif_exp.diffusion.prior import general_texts

if TYPE_CHECKING:
    from clif_exp.runs.execution import Execution


def merge_parts(execution: Execution, parts: Mapping[str, Artifact]) -> Artifact | None:
    """Get the artifact that merges concepts; to what follows it is what stage 2 has published.

    Args:
        execution: the run so far.
        parts: concept -> artifact of its own training.
    """
    plan = execution.plan
    settings = plan.config.method.merging
    assert settings is not None

    def build(out: Path) -> None:
        from clif_exp.methods.merging import merge

        merge(
            out,
            spec=plan.spec,
            parts={name: artifact.path for name, artifact in parts.items()},
            settings=settings,
            general_texts=general_texts,
            disjoint=plan.config.diffusion.orthogonal_lora,
            device=plan.config.trainer.device,
        )

    return execution.artifact(
        "merging",
        key="diffusion",
        stage="diffusion",
        version=settings.VERSION,
        config=settings.relevant(),
        inputs={"base": plan.base_fingerprint}
        | {f"part/{name}": artifact.fingerprint for name, artifact in parts.items()},
        build=build,
        work=len(parts),
        unit="concepts",
    )
