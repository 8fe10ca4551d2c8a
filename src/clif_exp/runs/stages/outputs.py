"""Each stage's wiring: the settings and inputs that its result depends on, and the call into its
room.

Settings that change speed but no result (devices, workers, batch sizes of sampling and judging,
paths, loggers) stay out of the fingerprints. A room is imported only to compute: a stage's VERSION
is read from its source, so that a run that reuses everything loads no torch.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from clif_exp.runs.stages.versions import version_of

if TYPE_CHECKING:
    from clif_exp.runs.execution import Execution

log = logging.getLogger("clif_exp")


def export(execution: Execution) -> None:
    """Put the files that other tools load into the run's folder."""
    plan, diffusion = execution.plan, execution.artifacts.get("diffusion")
    if diffusion is None:
        return
    facts = {key: plan.config[key] for key in ("seed", "contrastive", "diffusion", "method")}
    facts |= {"model": plan.config["model"]["family"]}

    def build(out: Path) -> None:
        from clif_exp.export.stage import export_run

        export_run(
            out,
            spec=plan.spec,
            concepts=plan.concepts,
            diffusion=diffusion.path,
            config=facts,
            sample=None,
        )

    artifact = execution.artifact(
        "export",
        stage="diffusion",
        version=version_of("export/stage.py"),
        config=facts,
        inputs={"diffusion": diffusion.fingerprint},
        build=build,
    )
    assert artifact is not None
    execution.run.publish("export", artifact.path)


def report(execution: Execution, config_yaml: str) -> None:
    """Write report.html and the sample grids."""
    if "report" not in execution.plan.config["stages"]:
        return
    from clif_exp.reporting.stage import write_report

    run = execution.run
    paths = {name: artifact.path for name, artifact in execution.artifacts.items()}
    # The page is the last thing a run makes: when somebody reads it, the run has finished.
    summary = {**run.summary, "status": "finished", "error": None}
    write_report(
        run.path,
        summary=summary,
        artifacts=paths,
        config_yaml=config_yaml,
        loggers=execution.trackers.loggers,
    )
    run.note("report", run.path / "report.html")
