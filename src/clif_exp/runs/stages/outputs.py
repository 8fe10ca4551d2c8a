"""The wiring of what a user takes away: the export and the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.artifacts.store import built_at
from clif_exp.concepts.concept import TRUTH_FILE
from clif_exp.curation.settings import FIELDS
from clif_exp.export.settings import ExportSettings
from clif_exp.runs.directory import sweep_of

if TYPE_CHECKING:
    from clif_exp.runs.execution import Execution

_FEW_STEPS = 50  # fewer are a try: by default stage 2 takes 800


def export(execution: Execution) -> None:
    """Put the files that other tools load into the run's folder."""
    plan, diffusion = execution.plan, execution.artifacts.get("diffusion")
    if diffusion is None:
        return
    config = plan.config
    facts = {
        "seed": config.seed,
        "contrastive": config.contrastive.relevant(),
        "diffusion": config.diffusion.relevant(),
        "export": config.export.relevant(),
        "method": config.method.relevant(),
        "model": config.model.family,
    }
    sampling = {
        "guidance_scale": config.generation.guidance_scale,
        "num_inference_steps": config.generation.num_inference_steps,
    }
    guided = config.generation.guidance == "regional"
    regional = config.generation.regional.weight if guided else None
    # It says how the run draws, so a run that draws anew writes one, too, whatever it trains.
    makes = [name for name in ("diffusion", "generation", "evaluation") if name in config.stages]

    def build(out: Path) -> None:
        from clif_exp.export.stage import export_run

        export_run(
            out,
            spec=plan.spec,
            concepts=plan.concepts,
            diffusion=diffusion.path,
            config=facts,
            sampling=sampling,
            regional=regional,
            settings=config.export,
            trained=built_at(diffusion),
        )

    artifact = execution.artifact(
        "export",
        stage=makes[0] if makes else "diffusion",
        version=ExportSettings.VERSION,
        # the card names the set, and says how the run drew
        config=facts | {"sampling": sampling, "regional": regional, "set": plan.concepts.name},
        inputs={"diffusion": diffusion.fingerprint},
        build=build,
    )
    if artifact is not None and not execution.forecasting:
        execution.run.publish("export", artifact.path)


def report(execution: Execution, config_yaml: str) -> None:
    """Write report.html and the sample grids."""
    if "report" not in execution.plan.config.stages:
        return
    from clif_exp.evaluation.metrics import guide
    from clif_exp.reporting.stage import write_report

    run = execution.run
    paths = {name: artifact.path for name, artifact in execution.artifacts.items()}
    # The page is the last thing a run makes: when somebody reads it, the run has finished.
    summary = {**run.summary, "status": "finished", "error": None}
    write_report(
        run.path,
        summary=summary,
        artifacts=paths,
        guide=guide(),
        config_yaml=config_yaml,
        set_name=execution.plan.concepts.name,
        class_words={c.name: c.class_word for c in execution.plan.concepts.concepts},
        warnings=[*execution.plan.warnings, *_few_steps(execution), *_without_truth(execution)],
        left_out=_left_out(execution, paths),
        in_sweep=sweep_of(run.path) is not None,
    )
    run.note("report", run.path / "report.html")


def track_images(execution: Execution) -> None:
    """Show the trackers what was drawn, before it is judged."""
    if execution.forecasting or not execution.trackers:
        return
    from clif_exp.reporting.images import write_grid
    from clif_exp.reporting.stage import sample_rows

    samples = execution.run.path / "samples"
    paths = {name: artifact.path for name, artifact in execution.artifacts.items()}
    for name, rows in sample_rows(paths).items():
        write_grid(samples / f"{name}.png", rows)
    execution.trackers.show_grids(samples)


def track_results(execution: Execution) -> None:
    """Show the trackers what the run found and made."""
    if not execution.trackers:
        return
    from clif_exp.runs.tracking.results import gather

    run = execution.run
    execution.trackers.show_grids(run.path / "samples")
    execution.trackers.show_results(
        gather(
            run.summary,
            folder=run.path,
            made=execution.artifacts,
            objective=execution.plan.config.objective,
        )
    )


def _left_out(execution: Execution, paths: Mapping[str, Path]) -> list[str]:
    """What was given or found and is not used, a sentence each."""
    from clif_exp.curation.omissions import left_out

    concepts = execution.plan.concepts
    if "segments" not in paths:
        return concepts.intake.lines()
    return [
        *concepts.intake.lines(),
        *left_out(
            paths["segments"],
            paths.get("contexts"),
            concepts=concepts,
            naming=execution.plan.config.captioner.naming.enabled,
            kinds=[kind for kind in FIELDS if f"augment_{kind}" in paths],
        ),
    ]


def _without_truth(execution: Execution) -> list[str]:
    """A warning if nobody could say what a reader of attributes has read of the concepts."""
    reader, root = execution.plan.config.evaluation.reader, execution.plan.root
    reads = reader.needs_truth and reader.kind != "none"
    if not reads or "evaluation" not in execution.artifacts or (root / TRUTH_FILE).exists():
        return []
    return [
        f"Identity, attendance and leakage are not measured for these concepts: {reader.kind} reads"
        f" attributes, and no {TRUTH_FILE} says which ones are theirs. Photographs are judged by"
        " evaluation=real."
    ]


def _few_steps(execution: Execution) -> list[str]:
    """A warning if stage 2 was too short to show anything of the method."""
    steps = execution.plan.config.diffusion.steps
    if "diffusion" not in execution.artifacts or steps >= _FEW_STEPS:
        return []
    return [
        f"Stage 2 trained for {steps} steps (diffusion.steps): enough to see that everything works,"
        " too few to judge images and metrics by."
    ]
