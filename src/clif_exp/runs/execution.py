"""A validated job and its artifacts so far."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.store import Artifact, ArtifactStore, process_rank
from clif_exp.errors import Refused
from clif_exp.runs.config import STAGES
from clif_exp.runs.directory import RunDirectory
from clif_exp.runs.trackers import Trackers

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BackboneSpec
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.prompts.evaluation import EvaluationPrompt

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
        """Tell how far a stage goes: "run"; "find" (a later one needs what was published); or
        "skip".
        """
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
            Refused: the stage is not among `stages`, a later one needs its artifact, and the store
                has none.
        """
        store, mode = self.plan.store, self.mode(stage)
        artifact: Artifact | None
        if mode == "run":
            artifact = store.get_or_build(
                name,
                version=version,
                config=config,
                inputs=inputs,
                build=build,
                work=work,
                collective=collective,
                help_build=help_build,
                before=lambda found: self._announce(name, found, work=work, unit=unit),
            )
        else:
            artifact = store.find(name, version=version, config=config, inputs=inputs)
            if artifact is None and mode == "skip":
                return None
            if artifact is None:
                raise Refused(
                    f"stages: {stage!r} is left out, but the store has no {name} of this config"
                    f" yet; add {stage} to stages"
                )
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
        log.info(
            "%-16s %sabout %s%s",
            name,
            amount,
            duration(expected),
            "" if known is not None else " on 2 CPU cores",
        )


def duration(seconds: float) -> str:
    """Write a duration for people."""
    if seconds < 1:
        return "1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
