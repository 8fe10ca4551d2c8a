"""Generation's wiring."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.store import Artifact
from clif_exp.runs.ranks import device_of
from clif_exp.runs.stages.versions import version_of

if TYPE_CHECKING:
    from clif_exp.prompts.evaluation import EvaluationPrompt
    from clif_exp.runs.execution import Execution


def generate(execution: Execution) -> None:
    """Sample the evaluation prompts, and the prior prompts from the untouched base model (shared by
    all its runs).
    """
    plan, diffusion = execution.plan, execution.artifacts.get("diffusion")
    settings = {key: value for key, value in plan.config["generation"].items() if key != "prompts"}
    prior = [prompt for prompt in plan.prompts if prompt.kind == "prior"]
    for name, model, prompts in (
        ("generation_prior", None, prior),
        ("generation", diffusion, plan.prompts),
    ):
        if prompts and (model is not None or name == "generation_prior"):
            _sample(execution, name, model=model, prompts=prompts, settings=settings)


def _sample(
    execution: Execution,
    name: str,
    *,
    model: Artifact | None,
    prompts: list[EvaluationPrompt],
    settings: dict[str, Any],
) -> None:
    plan = execution.plan

    def build(out: Path, *, helping: bool = False) -> None:
        from clif_exp.generation.stage import generate as sample

        path = model.path if model else None
        sample(
            out,
            spec=plan.spec,
            diffusion=path,
            prompts=prompts,
            device=device_of(plan.config),
            helping=helping,
            **settings,
        )

    described = [json.loads(json.dumps(prompt.to_json())) for prompt in prompts]
    execution.artifact(
        name,
        stage="generation",
        version=version_of("generation/stage.py"),
        config={
            "prompts": described,
            **{key: value for key, value in settings.items() if key != "batch_size"},
        },
        inputs={"base": plan.base} | ({"diffusion": model.fingerprint} if model else {}),
        build=build,
        help_build=partial(build, helping=True),
        work=len(prompts) * len(settings["seeds"]),
        unit="images",
    )
