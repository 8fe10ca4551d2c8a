"""Wiring of what makes one model of concepts that were customised apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.store import Artifact
from clif_exp.base_models.tokens import placeholder
from clif_exp.diffusion.prior import general_prompts
from clif_exp.methods.settings import Addition, ConstrainedMerge, GradientFusion

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
        folders = {name: artifact.path for name, artifact in parts.items()}
        phrases = {name: placeholder(name) for name in folders}
        match settings:
            case ConstrainedMerge():
                from clif_exp.methods.constrained_merge import merge_keys_and_values

                merge_keys_and_values(
                    out,
                    spec=plan.spec,
                    parts=folders,
                    phrases=phrases,
                    captions=[
                        prompt.text
                        for prompt in general_prompts(
                            plan.spec.record.world, count=settings.captions, seed=settings.seed
                        )
                    ],
                    device=plan.config.trainer.device,
                )
            case Addition():
                from clif_exp.methods.addition import merge_by_addition

                merge_by_addition(
                    out, parts=folders, disjoint=plan.config.diffusion.orthogonal_lora
                )
            case GradientFusion():
                from clif_exp.methods.fusing import Ridge, fuse_concepts

                fuse_concepts(
                    out,
                    spec=plan.spec,
                    parts=folders,
                    phrases=phrases,
                    num_inference_steps=settings.num_inference_steps,
                    seed=settings.seed,
                    ridge=Ridge(**settings.ridge.model_dump()),
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
