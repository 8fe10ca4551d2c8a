"""The wiring of general pairs: images and verdicts that all runs of a base model share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.files import content_digest
from clif_exp.evaluation.settings import OracleSettings
from clif_exp.runs.stages.generation import sample_images

if TYPE_CHECKING:
    from clif_exp.runs.execution import Execution


def measure_general_pairs(execution: Execution) -> None:
    """Draw pairs of concepts that the base model knows, and judge how it confuses them."""
    plan, config = execution.plan, execution.plan.config
    settings = config.evaluation
    wanted, reader = settings.general_pairs, settings.reader
    if not wanted.pairs or not isinstance(reader, OracleSettings):
        return
    from clif_exp.evaluation.general_pairs import general_pair_prompts

    images = sample_images(
        execution,
        "general_pairs_images",
        prompts=general_pair_prompts(wanted.of, count=wanted.pairs),
        stage="evaluation",
        settings=config.generation.model_copy(update={"seeds": wanted.seeds}),
    )
    if images is None:
        return

    def build(out: Path) -> None:
        from clif_exp.evaluation.general_pairs import judge_general_pairs

        judge_general_pairs(
            out,
            images=images.path,
            spec=plan.spec,
            settings=settings,
            device=config.trainer.device,
        )

    execution.artifact(
        "general_pairs",
        stage="evaluation",
        version=wanted.VERSION,
        config={
            "reader": reader.relevant(),
            "presence_threshold": settings.presence_threshold,
            "identity_threshold": settings.identity_threshold,
        },
        inputs={
            "base": plan.base_fingerprint,
            "images": images.fingerprint,
            "judges": content_digest([reader.folder(plan.spec)]),
        },
        build=build,
        work=2 * wanted.pairs * len(wanted.seeds),
        unit="images",
    )
