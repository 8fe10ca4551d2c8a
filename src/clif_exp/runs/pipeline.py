"""The stages in order: `prepare` checks and refuses, `execute` computes or reuses.

No DictConfig comes this far: settings are typed objects. `clif_exp.runs.stages` says what each
stage reads and what its fingerprint depends on.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from clif_exp.artifacts.store import ArtifactStore, process_rank
from clif_exp.errors import Refused, exit_code
from clif_exp.runs.config import Config
from clif_exp.runs.directory import RunDirectory, relative
from clif_exp.runs.execution import Execution, Plan
from clif_exp.runs.tracking.labels import labels_of
from clif_exp.runs.tracking.trackers import Trackers

log = logging.getLogger("clif_exp")


def prepare(config: Config) -> Plan:
    """Check everything that a job needs, without any heavy work.

    Args:
        config: validated settings.

    Returns:
        The plan to execute.

    Raises:
        ValueError: a setting or input that cannot work; names the field, what was found and how to
            fix it.
    """
    from clif_exp.base_models.spec import BaseModels, identity, resolve
    from clif_exp.diffusion.checks import check_settings as check_diffusion
    from clif_exp.evaluation.stage import check_settings as check_judges
    from clif_exp.evaluation.stage import check_truth
    from clif_exp.runs.preparation import (
        check_concepts,
        check_merging,
        check_parts,
        check_segmenter,
        check_told_apart,
        leave_parts_unnamed,
        read_concepts,
        select_prompts,
        warn_of_long_warm_ups,
        warn_of_unused_pairs,
    )

    store = ArtifactStore(Path(config.artifacts.root), reuse=config.artifacts.reuse, say=log.info)
    # A user's folder is checked before base models are looked for, which may download them.
    given = read_concepts(store, config.dataset) if config.dataset.name == "folder" else None
    spec = resolve(BaseModels(**config.model.model_dump()))
    check_segmenter(config, spec)
    warnings = []
    if spec.domain not in (None, config.dataset.domain):
        config, foreign = leave_parts_unnamed(config)
        warnings.append(foreign)
    if process_rank() == 0:
        warn_of_unused_pairs(config)
    if "diffusion" in config.stages:
        check_diffusion(spec, config.diffusion)
        check_merging(spec, config.method.merging)
    if "evaluation" in config.stages:
        check_judges(spec, config.evaluation)
    dataset, root, concepts = given or read_concepts(store, config.dataset)
    together = len(concepts.concepts) if config.method.merging is None else 1
    diffusion = config.diffusion.for_concepts(together)
    config = config.model_copy(update={"diffusion": diffusion})
    check_parts(concepts, config)
    check_told_apart(concepts, config)
    if config.diffusion.orthogonal_lora and "diffusion" in config.stages:
        check_diffusion(spec, config.diffusion, concepts=len(concepts.concepts))
    prompts, prompt_notes = select_prompts(concepts, config.generation.prompts)
    if "evaluation" in config.stages:
        check_truth(root, [concept.name for concept in concepts.concepts], config.evaluation)
    drawn_by = {config.generation.guidance}
    drawn_by |= {config.generation.compared} if config.evaluation.redrawn else set()
    check_concepts(
        concepts,
        spec=spec,
        tokens=config.diffusion.new_tokens(),
        prompts=prompts,
        regional="regional" in drawn_by,
    )
    if process_rank() == 0:
        warn_of_long_warm_ups(config)
        for line in (*concepts.intake.lines(), *prompt_notes):
            log.info("%s", line)
    return Plan(
        config, store, spec, identity(spec), dataset, root, concepts, prompts, tuple(warnings)
    )


def forecast(plan: Plan) -> Execution:
    """Return every artifact of the plan, found or still to be built, without building any."""
    execution = Execution(plan)
    _walk(execution)
    return execution


def execute(plan: Plan, *, run: RunDirectory, config_yaml: str) -> None:
    """Run the stages and complete the run's folder.

    Args:
        plan: from `prepare`.
        run: the run's folder; its summary grows with every stage.
        config_yaml: the resolved config, for the report.
    """
    from clif_exp.runs.ranks import use_own_device
    from clif_exp.runs.stages.outputs import report, track_results

    config, first = plan.config, process_rank() == 0
    trackers = Trackers(config.logger if first else None, folder=run.path)
    execution = Execution(plan, run, trackers)
    run.summary["intake"] = plan.concepts.intake.record()
    code = 0
    try:
        trackers.start(config.plain(), labels=labels_of(config, folder=run.path))
        if plan.dataset is not None:
            execution.artifacts["dataset"] = plan.dataset
            run.add_stage("dataset", plan.dataset)
        use_own_device(config.trainer)
        if first:
            _get_judges(plan)
        _walk(execution)
        _check_something_to_report(execution)
        if first:
            report(execution, config_yaml)
            track_results(execution)
            show_results(run)
    except BaseException as error:
        code = exit_code(error)
        raise
    finally:
        trackers.finish(code)


def _get_judges(plan: Plan) -> None:
    """Get what evaluation will need from a hub, before hours of training depend on it."""
    from clif_exp.evaluation.stage import get_from_hub

    config = plan.config
    if "evaluation" not in config.stages or not config.evaluation.hub_models():
        return
    if not config.artifacts.reuse or "evaluation" in forecast(plan).missing:
        get_from_hub(plan.spec, config.evaluation)


def _walk(execution: Execution) -> None:
    """Run the stages, in the order in which data passes through them."""
    from clif_exp.runs.stages.attention import record_attention
    from clif_exp.runs.stages.curation import curate
    from clif_exp.runs.stages.diffusion import train
    from clif_exp.runs.stages.evaluation import evaluate
    from clif_exp.runs.stages.general_pairs import measure_general_pairs
    from clif_exp.runs.stages.generation import generate
    from clif_exp.runs.stages.outputs import export, track_images

    curate(execution)
    train(execution)
    if process_rank() == 0:
        export(execution)
    generate(execution)
    track_images(execution)
    evaluate(execution)
    record_attention(execution)
    measure_general_pairs(execution)


def _check_something_to_report(execution: Execution) -> None:
    """Refuse a report alone of a config that was never run.

    Raises:
        Refused: the store has nothing of it.
    """
    plan = execution.plan
    if plan.config.stages == ["report"] and execution.artifacts.keys() <= {"dataset"}:
        raise Refused(
            f"stages: found ['report'], but the store {plan.store.root} has nothing of this config;"
            " run it with its other stages first"
        )


def show_results(run: RunDirectory) -> None:
    """Print the metrics, and the paths of the report and of the export."""
    from rich.console import Console
    from rich.table import Column, Table

    from clif_exp.evaluation.metrics import METRICS, table_of_metrics

    metrics = run.summary["metrics"]
    columns, rows = table_of_metrics(metrics)
    console = Console()
    if rows:
        table = Table(
            Column("", no_wrap=True),  # of what does not fit, the titles of the groups give way
            *(column.replace("_", " ").replace("stage1", "stage 1") for column in columns),
            title=f"{run.summary['experiment']}, seed {run.summary['seed']}",
        )
        arrows = {metric.name: f" {metric.arrow}" for metric in METRICS}
        for row in rows:
            name = row + arrows.get(row, "")
            table.add_row(name, *(_shown(metrics.get(f"{column}/{row}")) for column in columns))
        console.print(table)
    for name in ("report", "export"):
        if run.summary[name]:
            console.print(
                f"{name}: {relative(Path(run.summary[name]))}", soft_wrap=True, highlight=False
            )


def _shown(value: Any) -> str:
    """Write a metric; nothing for one that could not be measured."""
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
