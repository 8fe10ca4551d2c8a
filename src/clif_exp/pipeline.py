"""The stages in order: `prepare` checks and refuses, `execute` computes or reuses.

A DictConfig never comes this far: settings are plain dicts. What each stage reads and what its fingerprint depends on stands in
`clif_exp.stages`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts import Artifact, ArtifactStore, process_rank
from clif_exp.config import STAGES
from clif_exp.loggers import Trackers
from clif_exp.run_directory import RunDirectory, relative

if TYPE_CHECKING:
    from clif_exp.backbones import BackboneSpec
    from clif_exp.concepts import ConceptSet
    from clif_exp.prompts import EvaluationPrompt

log = logging.getLogger("clif_exp")

# Seconds per unit of work on 2 CPU cores, until the store knows this machine's own rates.
_FIRST_GUESS = {
    "dataset": 0.1,
    "segments": 0.3,
    "contexts": 0.3,
    "augment_G": 0.01,
    "augment_R": 0.01,
    "augment_M": 0.01,
    "contrastive": 0.08,
    "reconstruction": 0.3,
    "diffusion": 0.3,
    "generation": 0.4,
    "generation_prior": 0.4,
    "evaluation": 0.05,
    "export": 3.0,
}


class Refused(ValueError):
    """What the user asked for will not do, found out on the way and before anything was computed for it."""


@dataclass(frozen=True)
class Plan:
    """A job that nothing speaks against any more.

    Attributes:
        config: validated settings.
        store: where artifacts are kept.
        spec: resolved base models.
        base: the base models' identity.
        dataset: the materialised dataset; None for a user's folder, which is read where it lies.
        root: the concept set's folder.
        concepts: the concept set.
        prompts: the evaluation prompts.
    """

    config: dict[str, Any]
    store: ArtifactStore
    spec: BackboneSpec
    base: str
    dataset: Artifact | None
    root: Path
    concepts: ConceptSet
    prompts: list[EvaluationPrompt]

    @cached_property
    def concepts_fingerprint(self) -> str:
        """The concept set's content."""
        return self.concepts.fingerprint()


@dataclass
class Execution:
    """One run under way: its plan, its folder, and the artifacts so far.

    Attributes:
        plan: what to do.
        run: the run's folder.
        trackers: where curves go besides.
        artifacts: name -> artifact, in order.
    """

    plan: Plan
    run: RunDirectory
    trackers: Trackers
    artifacts: dict[str, Artifact] = field(default_factory=dict)

    def mode(self, stage: str) -> str:
        """Tell how far a stage goes: "run"; "find" (a later one needs what was published); or "skip"."""
        listed = self.plan.config["stages"]
        if stage in listed:
            return "run"
        last = max((STAGES.index(name) for name in listed if name != "report"), default=-1)
        return "find" if STAGES.index(stage) < last else "skip"

    def artifact(
        self,
        name: str,
        *,
        stage: str,
        version: int,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        build: Callable[[Path], None],
        work: float = 1.0,
        unit: str = "",
        collective: bool = False,
        help_build: Callable[[Path], None] | None = None,
    ) -> Artifact | None:
        """Get an artifact as `mode(stage)` says, note it, and say beforehand what it costs.

        Returns:
            The artifact; None where nothing needs it and it is not there.

        Raises:
            Refused: the stage is not among `stages`, a later one needs its artifact, and the store has none.
        """
        store, mode = self.plan.store, self.mode(stage)
        artifact: Artifact | None
        if mode == "run":
            artifact = store.get_or_build(
                name, version=version, config=config, inputs=inputs, build=build, work=work, collective=collective, help_build=help_build,
                before=lambda found: self._announce(name, found, work=work, unit=unit),
            )  # fmt: skip
        else:
            artifact = store.find(name, version=version, config=config, inputs=inputs)
            if artifact is None and mode == "skip":
                return None
            if artifact is None:
                raise Refused(f"stages: {stage!r} is left out, but the store has no {name} of this config yet; add {stage} to stages")
            self._announce(name, artifact, work=work, unit=unit)
        self.artifacts[name] = artifact
        self.run.add_stage(name, artifact)
        return artifact

    def _announce(self, name: str, found: Artifact | None, *, work: float, unit: str) -> None:
        if process_rank() > 0:
            return
        amount = f"{work:g} {unit}, " if unit else ""
        if found is not None:
            log.info("%-16s reused (%sbuilt in %s)", name, amount, duration(found.seconds))
            return
        known = self.plan.store.estimate_seconds(name, work=work)
        expected = known if known is not None else _FIRST_GUESS.get(name, 1.0) * work
        log.info("%-16s %sabout %s%s", name, amount, duration(expected), "" if known is not None else " on 2 CPU cores")


def duration(seconds: float) -> str:
    """Write a duration for people."""
    if seconds < 1:
        return "1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def prepare(config: dict[str, Any]) -> Plan:
    """Check everything that a job needs, without any heavy work.

    Args:
        config: validated settings.

    Returns:
        The plan to execute.

    Raises:
        ValueError: something the user gave will not do; names the field, what was found and what would do.
    """
    from clif_exp.backbones import BackboneSpec, identity, resolve
    from clif_exp.concepts import read_concept_set
    from clif_exp.diffusion.checks import check_settings as check_diffusion
    from clif_exp.evaluation.stage import check_settings as check_judges
    from clif_exp.preparation import check_concepts, leave_parts_unnamed, materialise_dataset, select_prompts

    store = ArtifactStore(Path(config["artifacts"]["root"]), reuse=config["artifacts"]["reuse"], say=log.info)
    spec = resolve(BackboneSpec(**config["model"]))
    config = leave_parts_unnamed(config) if spec.domain not in (None, config["dataset"]["domain"]) else config
    if "diffusion" in config["stages"]:
        check_diffusion(spec, config["diffusion"])
    if "evaluation" in config["stages"]:
        check_judges(spec, **config["evaluation"])
    settings = config["dataset"]
    dataset = materialise_dataset(store, settings)
    root = dataset.path if dataset else Path(settings["root"]).expanduser()
    concepts = read_concept_set(root, size=settings["size"])
    check_concepts(concepts, spec=spec, num_tokens=config["diffusion"]["num_tokens"])
    prompts = select_prompts(concepts, config["generation"])
    return Plan(config, store, spec, identity(spec), dataset, root, concepts, prompts)


def execute(plan: Plan, *, run: RunDirectory, config_yaml: str) -> None:
    """Run the stages, and leave the run's folder complete.

    Args:
        plan: from `prepare`.
        run: the run's folder; its summary grows with every stage.
        config_yaml: the resolved config, for the report.
    """
    from clif_exp import stages

    logger = plan.config["logger"] if process_rank() == 0 else {"wandb": None, "tensorboard": None}
    trackers = Trackers(logger, folder=run.path, name=f"{plan.config['name']}-seed{plan.config['seed']}")
    execution = Execution(plan, run, trackers)
    code = 1
    try:
        trackers.start(plan.config)
        if plan.dataset is not None:
            execution.artifacts["dataset"] = plan.dataset
            run.add_stage("dataset", plan.dataset)
        stages.use_own_device(plan.config)
        stages.curate(execution)
        stages.train(execution)
        if process_rank() == 0:
            stages.export(execution)
        stages.generate(execution)
        stages.evaluate(execution)
        if process_rank() == 0:
            stages.report(execution, config_yaml)
            show_results(run)
        code = 0
    finally:
        trackers.finish(code)


def show_results(run: RunDirectory) -> None:
    """Print the metrics, and where the report and the files to take away are."""
    from rich.console import Console
    from rich.table import Table

    metrics = run.summary["metrics"]
    # The breakdowns by layout and seen pairs ("multi/pairs_seen/...") are for the report.
    flat = [name.split("/") for name in metrics if name.count("/") == 1]
    columns = [kind for kind in ("single", "multi", "prior_before", "prior") if any(group == kind for group, _ in flat)]
    rows = list(dict.fromkeys(name for group, name in flat if group in columns))
    console = Console()
    if rows:
        table = Table(
            "", *(column.replace("_", " ") for column in columns), title=f"{run.summary['experiment']}, seed {run.summary['seed']}"
        )
        for row in rows:
            table.add_row(row, *(_shown(metrics.get(f"{column}/{row}")) for column in columns))
        console.print(table)
    for name in ("report", "export"):
        if run.summary[name]:
            console.print(f"{name}: {relative(Path(run.summary[name]))}", soft_wrap=True, highlight=False)


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
