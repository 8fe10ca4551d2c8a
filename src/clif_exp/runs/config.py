"""The composed config, validated before anything runs: every key, value and combination.

Each room defines its settings in its `settings.py`; here they are put together, and combinations
across rooms are checked.
"""

from __future__ import annotations

import difflib
import importlib.util
import shutil
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from clif_exp.base_models.families import FAMILIES
from clif_exp.base_models.settings import ModelSettings
from clif_exp.base_models.unet_tuning.targets import KEYS_AND_VALUES
from clif_exp.concepts.settings import DatasetSettings
from clif_exp.contrastive.settings import ContrastiveSettings
from clif_exp.curation.segmenters.settings import SEGMENTERS, SegmenterSettings
from clif_exp.curation.settings import CAPTIONERS, AugmentationSettings, CaptionerSettings
from clif_exp.diffusion.settings import DiffusionSettings
from clif_exp.evaluation.metrics import objectives
from clif_exp.evaluation.settings import EvaluationSettings
from clif_exp.export.settings import ExportSettings
from clif_exp.generation.settings import GenerationSettings
from clif_exp.runs.checking import check
from clif_exp.runs.settings import (
    ArtifactSettings,
    CallbackSettings,
    LoggerSettings,
    MethodSettings,
    PathSettings,
    PruningSettings,
)
from clif_exp.settings import SPEED, Name, Strict
from clif_exp.training.settings import TrainerSettings

Stage = Literal["curation", "contrastive", "diffusion", "generation", "evaluation", "report"]
STAGES: tuple[Stage, ...] = typing.get_args(Stage)
OBJECTIVES = objectives()


class Config(Strict):
    """The whole config of one job.

    Attributes:
        name: of the run's folder.
        seed: of training; sampling has generation.seeds.
        num_workers: processes that load and compose images.
        objective: metric that a sweep optimises, as in summary.json.
        stages: the results of those left out are taken from the store.
    """

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    num_workers: Annotated[int, Field(ge=0), SPEED]
    objective: str | None
    pruning: PruningSettings
    stages: Annotated[list[Stage], Field(min_length=1)]
    paths: PathSettings
    artifacts: ArtifactSettings
    dataset: DatasetSettings
    model: ModelSettings
    segmenter: SegmenterSettings
    captioner: CaptionerSettings
    augmentation: AugmentationSettings
    contrastive: ContrastiveSettings
    diffusion: DiffusionSettings
    method: MethodSettings
    generation: GenerationSettings
    evaluation: EvaluationSettings
    export: ExportSettings
    trainer: TrainerSettings
    logger: LoggerSettings
    callbacks: CallbackSettings

    def plain(self) -> dict[str, Any]:
        """Return plain dicts, lists and scalars under the YAML's keys."""
        return self.model_dump(by_alias=True)

    @model_validator(mode="after")
    def _stages(self) -> Self:
        if len(set(self.stages)) != len(self.stages):
            raise ValueError(f"stages: found {self.stages}, with repetitions; name each once")
        if sorted(self.stages, key=STAGES.index) != self.stages:
            raise ValueError(
                f"stages: found {self.stages}; they run in the order {', '.join(STAGES)}, so write"
                " them in it"
            )
        return self

    @model_validator(mode="after")
    def _objective(self) -> Self:
        if self.objective is not None and self.objective not in OBJECTIVES:
            near = difflib.get_close_matches(self.objective, OBJECTIVES, n=1, cutoff=0.5)
            remedy = (
                f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(OBJECTIVES)}"
            )
            raise ValueError(f"objective: found {self.objective!r}; {remedy}")
        if str(self.objective).startswith("stage1/") and not self.method.contrastive:
            raise ValueError(
                f"objective: found {self.objective!r}, but method={self.method.name} has no stage"
                " 1; choose a metric of another group"
            )
        return self

    @model_validator(mode="after")
    def _pruning(self) -> Self:
        stage, _, column = (self.pruning.metric or "").partition("/")
        trains = {"": True, "contrastive": self.method.contrastive}
        # Concepts that are customised apart have a curve each.
        trains["diffusion"] = self.method.diffusion and self.method.merging is None
        if not trains[stage]:
            raise ValueError(
                f"pruning.metric: found {self.pruning.metric!r}, of which method="
                f"{self.method.name} has no curve; name the other stage's, or null"
            )
        if column == "validation_loss" and self.diffusion.validation is None:
            raise ValueError(
                f"pruning.metric: found {self.pruning.metric!r} with diffusion.validation=null; say"
                " there how often it is measured, or use diffusion/loss"
            )
        return self

    @model_validator(mode="after")
    def _stage_1(self) -> Self:
        contrastive, family = self.contrastive, self.model.family
        tuning = None if contrastive.text_encoder == "frozen" else contrastive.text_encoder
        unused = {
            "control": contrastive.control,
            "reconstruction": contrastive.reconstruction and "settings",
            "text_encoder": tuning,
        }
        for field, found in unused.items():
            if found is not None and not self.method.contrastive:
                raise ValueError(
                    f"contrastive.{field}: found {found!r}, but method={self.method.name} has no"
                    " stage 1; use method=clif"
                )
        if self.method.contrastive and self.diffusion.class_word:
            raise ValueError(
                f"diffusion.class_word: found true, but method={self.method.name} has a stage 1,"
                " whose tokens it takes; set it to false"
            )
        if tuning is not None and self.diffusion.text_lora is not None:
            raise ValueError(
                f"contrastive.text_encoder: found {tuning!r} with diffusion.text_lora, but text"
                " encoders can be trained in one stage only; use frozen, or"
                " diffusion.text_lora=null"
            )
        known = FAMILIES[family].encoders
        for encoder in contrastive.encoders or ():
            if encoder not in known:
                has = "one text encoder" if len(known) == 1 else f"{len(known)} text encoders"
                raise ValueError(
                    f"contrastive.encoders: found {encoder!r}, but {family} has {has}; choose from"
                    f" [{', '.join(known)}] or use null for all"
                )
        basis = contrastive.basis
        if (
            self.method.contrastive
            and basis is not None
            and basis.words is None
            and FAMILIES[family].world != "toonworld"
        ):
            raise ValueError(
                f"contrastive.basis.words: found null, but {family} comes with no list of names;"
                " list words that stand for whole looks, such as famous people's names, or use"
                " contrastive.basis=null"
            )
        return self

    @model_validator(mode="after")
    def _world(self) -> Self:
        family, world = self.model.family, self.generation.prompts.world
        knows = FAMILIES[family].world
        if world not in ("generic", knows):
            raise ValueError(
                f"generation.prompts.world: found {world!r} for a {family} model; use"
                " generation=real"
            )
        if self.evaluation.reader.kind == "oracle" and knows != "toonworld":
            raise ValueError(
                f"evaluation.reader.kind: found 'oracle' for a {family} model, which draws no"
                " ToonWorld; use evaluation=real"
            )
        return self

    @model_validator(mode="after")
    def _merging(self) -> Self:
        merging, diffusion = self.method.merging, self.diffusion
        if merging is None:
            if diffusion.orthogonal_lora:
                raise ValueError(
                    "diffusion.orthogonal_lora: found true with method.merging=null, where all"
                    " concepts share one LoRA; set it to false, or use method=orthogonal"
                )
            return self
        own = diffusion.target_modules
        layers = list(KEYS_AND_VALUES) if merging.kind == "constrained" else own
        if diffusion.unet not in merging.UNETS or layers != own:
            raise ValueError(
                f"method.merging.kind: found {merging.kind!r} with diffusion.unet={diffusion.unet}"
                f" and target_modules={own}; it merges diffusion.unet={merging.UNETS[0]}"
                f" with target_modules={layers}"
            )
        if not merging.MERGES_TEXT:
            tuned = self.method.contrastive and self.contrastive.text_encoder != "frozen"
            beyond = {
                "diffusion.text_lora": diffusion.text_lora is not None,
                "diffusion.layerwise": diffusion.layerwise,
                "contrastive.text_encoder": tuned,
            }
            for field in (name for name, given in beyond.items() if given):
                raise ValueError(
                    f"{field}: found a value with method.merging.kind={merging.kind!r}, which"
                    " cannot merge what it trains; leave it out, or use kind: gradient_fusion"
                )
        return self

    @model_validator(mode="after")
    def _hardware(self) -> Self:
        diffusion, trainer = self.diffusion, self.trainer
        parts = [("diffusion", diffusion.accumulate, diffusion.batch_size)]
        if (again := self.contrastive.reconstruction) is not None:
            parts.append(("contrastive.reconstruction", again.accumulate, again.batch_size))
        for group, accumulate, size in parts:
            if (accumulate > 1 or group != "diffusion") and size % (trainer.ranks * accumulate):
                raise ValueError(
                    f"{group}.accumulate: found {accumulate}; {trainer.ranks} devices x"
                    f" {accumulate} parts do not divide {group}.batch_size={size} evenly"
                )
        if not self.artifacts.reuse and trainer.ranks > 1:
            raise ValueError(
                "artifacts.reuse: found false with several ranks, which share the store; give a"
                " new artifacts.root=FOLDER"
            )
        if diffusion.optimizer == "adamw8bit" and importlib.util.find_spec("bitsandbytes") is None:
            raise ValueError(
                "diffusion.optimizer: found 'adamw8bit', but the package bitsandbytes is not"
                ' installed; pip install "bitsandbytes>=0.50", or use diffusion.optimizer=adamw'
            )
        if (
            diffusion.compile
            and trainer.accelerator == "cpu"
            and not any(map(shutil.which, ("c++", "g++", "clang++")))
        ):
            raise ValueError(
                "diffusion.compile: found true, but there is no C++ compiler, which torch.compile"
                " needs on CPUs; install g++ or set it to false"
            )
        return self


def validate(config: Mapping[str, Any]) -> Config:
    """Validate a composed and resolved config.

    Returns:
        The settings, in the declared types (1 and 1.0 of a float key have one fingerprint).

    Raises:
        ValueError: names the field, what was given and how to fix it; several problems are joined
            by "; ".
    """
    checked = check(Config, config)
    # What `settings` may hold depends on the name beside it; a user's own segmenter is not checked.
    if checked.segmenter.target is None:
        typed = check(
            SEGMENTERS[checked.segmenter.name],
            checked.segmenter.settings,
            where=("segmenter", "settings"),
        )
        segmenter = checked.segmenter.model_copy(update={"settings": typed})
        checked = checked.model_copy(update={"segmenter": segmenter})
    typed = check(
        CAPTIONERS[checked.captioner.name],
        checked.captioner.settings,
        where=("captioner", "settings"),
    )
    captioner = checked.captioner.model_copy(update={"settings": typed})
    return checked.model_copy(update={"captioner": captioner})
