"""Evaluation's wiring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.files import content_digest
from clif_exp.runs.ranks import device_of
from clif_exp.runs.stages.versions import version_of

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BackboneSpec
    from clif_exp.runs.execution import Execution


def evaluate(execution: Execution) -> None:
    """Judge the images; the metrics go into summary.json."""
    plan, made = execution.plan, execution.artifacts
    if "generation" not in made:
        return
    settings = plan.config["evaluation"]
    reads = {
        name: made[name]
        for name in ("generation", "generation_prior", "contrastive", "diffusion")
        if name in made
    }

    paths = {name: artifact.path for name, artifact in reads.items()}

    def build(out: Path, *, helping: bool = False) -> None:
        from clif_exp.evaluation.stage import evaluate as judge

        judge(
            out,
            generations=paths["generation"],
            concepts=plan.concepts,
            dataset_root=plan.root,
            spec=plan.spec,
            prior_before=paths.get("generation_prior"),
            contrastive=paths.get("contrastive"),
            diffusion=paths.get("diffusion"),
            device=device_of(plan.config),
            helping=helping,
            **settings,
        )

    artifact = execution.artifact(
        "evaluation",
        stage="evaluation",
        version=version_of("evaluation/stage.py"),
        config={key: value for key, value in settings.items() if key != "batch_size"},
        inputs={name: artifact.fingerprint for name, artifact in reads.items()}
        | {
            "concepts": plan.concepts_fingerprint,
            "truth": content_digest([plan.root / "truth.json", plan.root / "held_out"]),
        }
        | {"judges": content_digest(_judges(plan.spec, settings))},
        build=build,
        help_build=partial(build, helping=True),
        work=len(plan.prompts) * len(plan.config["generation"]["seeds"]),
        unit="images",
    )
    if artifact is not None:
        execution.run.add_metrics(json.loads((artifact.path / "metrics.json").read_text()))


def _judges(spec: BackboneSpec, settings: Mapping[str, Any]) -> list[Path]:
    """Local folders of the judging models: named ones, else those beside the base models, else the
    packaged ones.
    """
    from clif_exp.base_models.spec import packaged_weights

    folders = [
        Path(str(value))
        for group in settings.values()
        if isinstance(group, Mapping)
        for value in group.values()
        if value
    ]
    for name in ("judge_clip", "oracle"):
        beside = Path(str(spec.path)).expanduser().resolve().parent / name
        folders.append(beside if beside.is_dir() else packaged_weights() / name)
    return [folder for folder in folders if folder.is_dir()]
