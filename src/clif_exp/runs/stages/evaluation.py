"""Evaluation's wiring."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.files import content_digest
from clif_exp.concepts.concept import TRUTH_FILE
from clif_exp.evaluation.metrics import REDRAWN
from clif_exp.evaluation.models import packaged_model
from clif_exp.evaluation.settings import EvaluationSettings

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.runs.execution import Execution

_READS = (
    *("generation", "generation_prior", "generation_class_word", "generation_stage1"),
    *(f"generation_{group}" for group in REDRAWN),
    *("contrastive", "diffusion"),
)


def evaluate(execution: Execution) -> None:
    """Judge the images; the metrics go into summary.json."""
    plan, made = execution.plan, execution.artifacts
    if "generation" not in made:
        return
    settings = plan.config.evaluation
    reads = {name: made[name] for name in _READS if name in made}
    paths = {name: artifact.path for name, artifact in reads.items()}

    def build(out: Path, *, finalize: bool = True) -> None:
        from clif_exp.evaluation.stage import evaluate as judge

        judge(
            out,
            generations=paths["generation"],
            concepts=plan.concepts,
            dataset_root=plan.root,
            spec=plan.spec,
            prior_before=paths.get("generation_prior"),
            class_word=paths.get("generation_class_word"),
            stage_1=paths.get("generation_stage1"),
            redrawn={
                group: paths[name] for group in REDRAWN if (name := f"generation_{group}") in paths
            },
            contrastive=paths.get("contrastive"),
            diffusion=paths.get("diffusion"),
            device=plan.config.trainer.device,
            settings=settings,
            finalize=finalize,
        )

    truth = [plan.root / TRUTH_FILE, plan.root / "held_out"]
    artifact = execution.artifact(
        "evaluation",
        stage="evaluation",
        version=settings.VERSION,
        config=settings.relevant(),
        inputs={name: artifact.fingerprint for name, artifact in reads.items()}
        | {
            "concepts": plan.concepts_fingerprint,
            "truth": content_digest([path for path in truth if path.exists()]),
            "judges": content_digest(_judges(plan.spec, settings)),
        },
        build=build,
        contribute=partial(build, finalize=False),
        work=len(plan.prompts) * len(plan.config.generation.seeds),
        unit="images",
    )
    if artifact is not None and not execution.forecasting:
        metrics = json.loads((artifact.path / "metrics.json").read_text())
        execution.run.add_metrics(metrics)


def _judges(spec: BaseModels, settings: EvaluationSettings) -> list[Path]:
    """Return the local folders of the judging models: those that settings name, and ToonWorld's."""
    named = settings.named_models().values()
    folders = [Path(name).expanduser() for names in named for name in names]
    folders += [packaged_model(spec, name) for name in ("judge_clip", "oracle")]
    return [folder for folder in folders if folder.is_dir()]
