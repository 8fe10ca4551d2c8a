"""The wiring of the cross-attention maps: an artifact for each model that draws the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.generation.attention import WatchedPrompt, select_prompts, watched

if TYPE_CHECKING:
    from clif_exp.artifacts.store import Artifact
    from clif_exp.runs.execution import Execution


def record_attention(execution: Execution) -> None:
    """Record where each model looks for the concepts of a few prompts, from the same noise.

    The untouched base model draws them by class words, once for all runs, then from what stage 1
    trained alone, if the method has one, and last the customised model does.
    """
    plan, made = execution.plan, execution.artifacts
    wanted = plan.config.evaluation.attention
    prompts = select_prompts(plan.prompts, singles=wanted.singles, pairs=wanted.pairs)
    if not prompts:
        return
    class_words = {concept.name: concept.class_word for concept in plan.concepts.concepts}
    in_words = [watched(prompt, class_words=class_words) for prompt in prompts]
    _record(execution, "attention_class_word", prompts=in_words, model=None)
    models = {
        "attention_stage1": made.get("reconstruction", made.get("contrastive")),
        "attention": made.get("diffusion"),
    }
    for name, model in models.items():
        if model is not None:
            by_name = [watched(prompt) for prompt in prompts]
            _record(execution, name, prompts=by_name, model=model)


def _record(
    execution: Execution, name: str, *, prompts: Sequence[WatchedPrompt], model: Artifact | None
) -> None:
    plan, config = execution.plan, execution.plan.config
    wanted, sampling = config.evaluation.attention, config.generation
    seed = sampling.seeds[0]

    def build(out: Path, *, finalize: bool = True) -> None:
        from clif_exp.generation import attention

        attention.record_attention(
            out,
            spec=plan.spec,
            model=model.path if model else None,
            prompts=prompts,
            seed=seed,
            between=wanted.between,
            settings=sampling,
            device=config.trainer.device,
            finalize=finalize,
        )

    execution.artifact(
        name,
        stage="evaluation",
        version=wanted.VERSION,
        config={
            "between": wanted.between,
            "seed": seed,
            "num_inference_steps": sampling.num_inference_steps,
            "guidance_scale": sampling.guidance_scale,
            "mixed_precision": sampling.mixed_precision,
            "prompts": [asdict(prompt) for prompt in prompts],
        },
        inputs={"base": plan.base_fingerprint}
        | ({model.stage: model.fingerprint} if model else {}),
        build=build,
        contribute=partial(build, finalize=False),
        work=len(prompts),
        unit="images",
    )
