"""Stage 2's wiring."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.store import Artifact
from clif_exp.runs.stages.contrastive import train_contrastive
from clif_exp.runs.stages.versions import version_of

if TYPE_CHECKING:
    from clif_exp.runs.execution import Execution


def train(execution: Execution) -> None:
    """Stage 1 and stage 2, as far as the method has them; their curves go to the run's metrics.csv
    and the trackers.
    """
    config = execution.plan.config
    contrastive = train_contrastive(
        execution,
        numerics=_numerics(config),
        trainer=lambda: _trainer(config),
        version_of=version_of,
    )
    _train_diffusion(execution, contrastive)
    trained = ("contrastive", "reconstruction", "diffusion")
    curves = {
        name: artifact.path / "metrics.csv"
        for name, artifact in execution.artifacts.items()
        if name in trained
    }
    execution.run.write_curves(curves)
    for name, file in curves.items():
        execution.trackers.log_curve(name, file)


def _train_diffusion(execution: Execution, contrastive: Artifact | None) -> Artifact | None:
    plan = execution.plan
    settings = plan.config["diffusion"]
    # Bit for bit the same with and without: a run that was out of memory goes on with it.
    relevant = {key: value for key, value in settings.items() if key != "gradient_checkpointing"}
    inputs = {"concepts": plan.concepts_fingerprint, "base": plan.base}
    reads = {
        "manifest": execution.artifacts.get("augment_M"),
        "segments": execution.artifacts.get("segments"),
        "embeddings": contrastive,
    }
    inputs |= {
        name: artifact.fingerprint for name, artifact in reads.items() if artifact is not None
    }

    def build(out: Path) -> None:
        from clif_exp.diffusion.stage import train_diffusion

        paths: dict[str, Any] = {
            name: artifact.path if artifact else None for name, artifact in reads.items()
        }
        if contrastive is not None:
            paths["embeddings"] = contrastive.path / "concept_embeddings.safetensors"
        train_diffusion(
            out,
            spec=plan.spec,
            concepts=plan.concepts,
            seed=plan.config["seed"],
            trainer=_trainer(plan.config),
            **paths,
            **settings,
        )

    return execution.artifact(
        "diffusion",
        stage="diffusion",
        version=version_of("diffusion/stage.py"),
        config={
            "settings": relevant,
            "seed": plan.config["seed"],
            "hardware": _numerics(plan.config),
        },
        inputs=inputs,
        build=build,
        work=max(settings["steps"], 1),
        unit="steps",
        collective=True,
    )


def _trainer(config: Mapping[str, Any]) -> Any:
    from clif_exp.training.settings import TrainerSettings

    return TrainerSettings(
        **config["trainer"],
        num_workers=config["num_workers"],
        progress=config["callbacks"]["progress"],
    )


def _numerics(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of the trainer changes results: the precision, and over how many ranks a batch is split."""
    return {
        "precision": config["trainer"]["precision"],
        "ranks": config["trainer"]["devices"] * config["trainer"]["num_nodes"],
    }
