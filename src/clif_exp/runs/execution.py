"""A validated job and its artifacts so far."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clif_exp.artifacts.store import Artifact, ArtifactStore, fingerprint, process_rank
from clif_exp.errors import Refused
from clif_exp.runs.config import STAGES, Config, Stage
from clif_exp.runs.directory import RunDirectory
from clif_exp.runs.tracking.trackers import Trackers

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from clif_exp.base_models.spec import BaseModels
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.prompts.evaluation import EvaluationPrompt

log = logging.getLogger("clif_exp")

# Seconds per unit of work on 2 CPU cores, until the store has measured this machine's rates.
_FIRST_GUESS = {
    "dataset": 0.1,
    "segments": 0.3,
    "contexts": 0.3,
    "augment_G": 0.01,
    "augment_R": 0.01,
    "augment_M": 0.01,
    "contrastive": 0.08,
    "reconstruction": 0.3,
    "prior_images": 0.4,
    "class_images": 0.4,
    "diffusion": 0.3,
    "merging": 5.0,
    "generation": 0.4,
    "generation_prior": 0.4,
    "generation_class_word": 0.4,
    "generation_stage1": 0.4,
    "generation_plain": 0.4,
    "generation_regional": 0.6,
    "evaluation": 0.05,
    "attention_class_word": 0.5,
    "attention_stage1": 0.5,
    "attention": 0.5,
    "general_pairs_images": 0.4,
    "general_pairs": 0.05,
    "export": 3.0,
}


@dataclass(frozen=True)
class Plan:
    """A validated job, ready to run.

    Attributes:
        config: validated settings.
        store: where artifacts are kept.
        spec: resolved base models.
        base_fingerprint: the base models' identity.
        dataset: the materialised dataset; None for a user's folder, which is read in place.
        root: the concept set's folder.
        concepts: the concept set.
        prompts: the evaluation prompts.
        warnings: why this job's results may mislead, in sentences for its pages.
    """

    config: Config
    store: ArtifactStore
    spec: BaseModels
    base_fingerprint: str
    dataset: Artifact | None
    root: Path
    concepts: ConceptSet
    prompts: list[EvaluationPrompt]
    warnings: tuple[str, ...] = ()

    @cached_property
    def concepts_fingerprint(self) -> str:
        """The concept set's content."""
        return self.concepts.fingerprint()


class Execution:
    """A run in progress: its plan, its folder, and the artifacts so far.

    Without a folder it is a forecast: all fingerprints are computed, nothing is built.

    Attributes:
        plan: what to do.
        artifacts: name -> artifact, in order.
        missing: of a forecast: key -> artifact's name and amount of work, where the store has none.
    """

    def __init__(
        self, plan: Plan, run: RunDirectory | None = None, trackers: Trackers | None = None
    ) -> None:
        """Start with no artifacts.

        Args:
            plan: what to do.
            run: the run's folder; None: only forecast.
            trackers: they are shown each training stage, live or as stored.
        """
        self.plan, self._run, self._trackers = plan, run, trackers
        self.artifacts: dict[str, Artifact] = {}
        self.missing: dict[str, tuple[str, float]] = {}

    @property
    def forecasting(self) -> bool:
        """Whether nothing is built."""
        return self._run is None

    @property
    def run(self) -> RunDirectory:
        """The run's folder."""
        assert self._run is not None, "a forecast has no folder"
        return self._run

    @property
    def trackers(self) -> Trackers:
        """The run's trackers."""
        assert self._trackers is not None, "a forecast has no trackers"
        return self._trackers

    def mode(self, stage: Stage) -> Literal["run", "find", "skip", "forecast"]:
        """Return what to do about a stage; "find": a later one needs what it published before."""
        listed = self.plan.config.stages
        if stage in listed:
            return "forecast" if self.forecasting else "run"
        last = max((STAGES.index(name) for name in listed if name != "report"), default=-1)
        if STAGES.index(stage) >= last:
            return "skip"
        return "forecast" if self.forecasting else "find"

    def note_parts(self, name: str, parts: Sequence[str]) -> None:
        """Note a stage that publishes several artifacts in the summary."""
        if not self.forecasting:
            self.run.add_stage_of(name, parts)

    def log_curves(self, curves: Mapping[str, Path]) -> None:
        """Copy the training stages' metrics.csv into the run's folder."""
        if not self.forecasting:
            self.run.write_curves(curves)

    def loggers(self, key: str, out: Path) -> list[Logger]:
        """Return what shows a training stage while it trains, or stops it.

        Args:
            key: what the run calls its artifact.
            out: the folder that it is built in, which is named after its fingerprint.
        """
        from clif_exp.runs.pruning import pruning_loggers

        pruning = pruning_loggers(self.plan.config.pruning, curve=key)
        return [*self.trackers.loggers(key, content=out.stem), *pruning]

    def artifact(
        self,
        name: str,
        *,
        stage: Stage,
        version: int,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        build: Callable[[Path], None],
        key: str | None = None,
        work: float = 1.0,
        unit: str = "",
        collective: bool = False,
        contribute: Callable[[Path], None] | None = None,
    ) -> Artifact | None:
        """Get an artifact as `mode(stage)` says, note it, and log its expected cost.

        Args:
            name: of the artifact.
            stage: the stage that it belongs to.
            version: see `ArtifactStore.get_or_build`, as for the arguments that follow.
            config: result-relevant settings.
            inputs: name -> fingerprint.
            build: fills a folder.
            key: what the run calls it, where that is not its name: several artifacts of one name
                have one each.
            work: amount of work, for the estimate.
            unit: what `work` counts.
            collective: all ranks build it together.
            contribute: takes a share of another process's build.

        Returns:
            The artifact; None if nothing needs it and the store has none.

        Raises:
            Refused: the stage is not among `stages`, but a later one needs its artifact, and the
                store has none.
        """
        store, mode = self.plan.store, self.mode(stage)
        key = key or name
        identity: dict[str, Any] = {"version": version, "config": config, "inputs": inputs}
        artifact: Artifact | None
        if mode == "run":
            artifact = store.get_or_build(
                name,
                **identity,
                build=build,
                work=work,
                collective=collective,
                contribute=contribute,
                before=lambda found: self._announce(name, found, key=key, work=work, unit=unit),
            )
        elif mode == "forecast":
            digest = fingerprint(name, **identity)
            there = store.find(name, **identity)
            if there is None:
                self.missing[key] = (name, work)
            artifact = there or Artifact(name, digest, store.root / name / digest, False, 0.0, 0.0)
        else:
            artifact = store.find(name, **identity)
            if artifact is None and mode == "skip":
                return None
            if artifact is None:
                raise Refused(
                    f"stages: {stage!r} is left out, but the store has no {key} of this config"
                    f" yet; add {stage} to stages"
                )
            self._announce(name, artifact, key=key, work=work, unit=unit)
        self.artifacts[key] = artifact
        if not self.forecasting:
            self.run.add_stage(key, artifact)
            self.trackers.show_stage(key, artifact.path, content=artifact.fingerprint)
        return artifact

    def _announce(
        self, name: str, found: Artifact | None, *, key: str, work: float, unit: str
    ) -> None:
        """Log that an artifact is reused, or how long building it will take."""
        if process_rank() > 0:
            return
        amount = f"{work:g} {unit.removesuffix('s') if work == 1 else unit}, " if unit else ""
        if found is not None:
            log.info("%-21s reused (%sbuilt in %s)", key, amount, duration(found.seconds))
            return
        known = self.plan.store.estimate_seconds(name, work=work)
        expected = known if known is not None else first_guess(name, work=work)
        log.info(
            "%-21s %sabout %s%s",
            key,
            amount,
            duration(expected),
            "" if known is not None else " on 2 CPU cores",
        )


def first_guess(name: str, *, work: float) -> float:
    """Return about how many seconds 2 CPU cores take for an artifact."""
    return _FIRST_GUESS.get(name, 1.0) * work


def duration(seconds: float) -> str:
    """Write a duration in a readable unit."""
    if seconds < 1:
        return "1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
