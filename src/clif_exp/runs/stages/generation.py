"""Generation's wiring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.store import Artifact
from clif_exp.prompts.evaluation import in_class_words
from clif_exp.prompts.sentences import divisible

if TYPE_CHECKING:
    from clif_exp.generation.settings import GenerationSettings
    from clif_exp.prompts.evaluation import EvaluationPrompt
    from clif_exp.runs.config import Stage
    from clif_exp.runs.execution import Execution


def generate(execution: Execution) -> None:
    """Sample the evaluation prompts.

    The prior prompts are also drawn by the untouched base model, once for all its runs. So are the
    prompts of single concepts, if the method has a stage 1: by their class words, once for all
    runs, and with nothing but what stage 1 trained.
    """
    plan, made = execution.plan, execution.artifacts
    diffusion, stage_1 = made.get("diffusion"), made.get("reconstruction", made.get("contrastive"))
    prior = [prompt for prompt in plan.prompts if prompt.kind == "prior"]
    if prior:
        sample_images(execution, "generation_prior", prompts=prior)
    single = [prompt for prompt in plan.prompts if prompt.kind == "single"]
    if single and stage_1 is not None:
        sample_images(execution, "generation_class_word", prompts=in_class_words(single))
        # what stage 1 taught, whatever guides the final images
        alone = plan.config.generation.model_copy(update={"guidance": None})
        sample_images(execution, "generation_stage1", model=stage_1, prompts=single, settings=alone)
    last = diffusion if plan.config.method.diffusion else stage_1
    if plan.prompts and last is not None:
        sample_images(execution, "generation", model=last, prompts=plan.prompts)
        _sample_again(execution, last)


def _sample_again(execution: Execution, model: Artifact) -> None:
    """Draw some prompts of several concepts again, by the guidance that a report compares with.

    It then shows what the run's own changes, and what tools without it draw.
    """
    plan = execution.plan
    settings = plan.config.generation
    if not {"evaluation", "report"} & {*plan.config.stages}:
        return
    if prompts := divisible(plan.prompts, limit=plan.config.evaluation.redrawn):
        sample_images(
            execution,
            f"generation_{settings.compared or 'plain'}",
            model=model,
            prompts=prompts,
            settings=settings.model_copy(update={"guidance": settings.compared}),
        )


def sample_images(
    execution: Execution,
    name: str,
    *,
    prompts: Sequence[EvaluationPrompt],
    model: Artifact | None = None,
    stage: Stage = "generation",
    settings: GenerationSettings | None = None,
    key: str | None = None,
) -> Artifact | None:
    """Get an artifact of images of prompts.

    Args:
        execution: the run so far.
        name: of the artifact.
        prompts: what to draw.
        model: what draws them; None: the untouched base model.
        stage: the stage that needs them.
        settings: how to sample; None: as the config says.
        key: what the run calls it; None: as its name.
    """
    plan = execution.plan
    settings = settings or plan.config.generation
    if model is None:  # the base knows no concepts to guide
        settings = settings.model_copy(update={"guidance": None})

    def build(out: Path, *, finalize: bool = True) -> None:
        from clif_exp.generation.stage import generate as sample

        sample(
            out,
            spec=plan.spec,
            diffusion=model.path if model else None,
            prompts=list(prompts),
            settings=settings,
            device=plan.config.trainer.device,
            finalize=finalize,
        )

    described = [json.loads(json.dumps(prompt.to_json())) for prompt in prompts]
    return execution.artifact(
        name,
        key=key,
        stage=stage,
        version=settings.VERSION,
        # The prompts themselves, instead of what chose them.
        config={**settings.relevant(), "prompts": described},
        inputs={"base": plan.base_fingerprint}
        | ({model.stage: model.fingerprint} if model else {}),
        build=build,
        contribute=partial(build, finalize=False),
        work=len(prompts) * len(settings.seeds),
        unit="images",
    )
