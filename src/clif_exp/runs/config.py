"""The composed config, checked before anything runs: every key, value and combination.

`validate` turns it into plain dicts of the declared types (1 and 1.0 of a float key have one
fingerprint). The rooms' own settings are described in `clif_exp.runs.config_rooms`.
"""

from __future__ import annotations

import difflib
import importlib.util
import shutil
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from clif_exp.runs.config_rooms import (
    Augmentation,
    Captioner,
    Contrastive,
    Diffusion,
    Evaluation,
    Generation,
    Method,
    Model,
    Segmenter,
    Strict,
    settings_model,
)

Checked = TypeVar("Checked", bound=BaseModel)
STAGES = ("curation", "contrastive", "diffusion", "generation", "evaluation", "report")
Stage = Literal["curation", "contrastive", "diffusion", "generation", "evaluation", "report"]
CAST = 18  # members of a ToonWorld cast
METRICS = (
    *(
        f"{kind}/{name}"
        for kind in ("single", "multi", "prior")
        for name in ("text_alignment", "image_alignment", "identity")
    ),
    *(
        f"{kind}/{name}"
        for kind in ("single", "multi", "prior")
        for name in ("attribute_binding", "attendance", "duplicates")
    ),
    *("multi/leakage", "multi/side", "multi/confusion"),
)
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+=-]*$")]


class Paths(Strict):
    root: str
    artifacts: str
    runs: str
    sweeps: str


class Dataset(Strict):
    name: Literal["toonworld", "photos", "folder"]
    root: str | None
    size: Annotated[int, Field(ge=1)] | None
    cast_seed: Annotated[int, Field(ge=0)] | None
    domain: Name


class Artifacts(Strict):
    root: str
    reuse: bool


class Trainer(Strict):
    accelerator: Literal["cpu", "gpu", "cuda", "auto"]
    devices: Annotated[int, Field(ge=1)]
    num_nodes: Annotated[int, Field(ge=1)]
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    max_time: Annotated[float, Field(gt=0)] | None
    checkpoint_every_n_steps: Annotated[int, Field(ge=1)]


class Wandb(Strict):
    mode: Literal["offline", "online"]
    project: str
    entity: str | None
    group: str | None
    tags: list[str]


class TensorBoard(Strict):
    folder: str


class Logger(Strict):
    wandb: Wandb | None
    tensorboard: TensorBoard | None


class Callbacks(Strict):
    progress: bool


class Config(Strict):
    """The whole config of one job."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    num_workers: Annotated[int, Field(ge=0)]
    objective: str | None
    stages: Annotated[list[Stage], Field(min_length=1)]
    paths: Paths
    artifacts: Artifacts
    dataset: Dataset
    model: Model
    segmenter: Segmenter
    captioner: Captioner
    augmentation: Augmentation
    contrastive: Contrastive
    diffusion: Diffusion
    method: Method
    generation: Generation
    evaluation: Evaluation
    trainer: Trainer
    logger: Logger
    callbacks: Callbacks


def validate(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a composed and resolved config.

    Returns:
        The same config as plain dicts, lists and scalars of the declared types.

    Raises:
        ValueError: names the field, what was given and what would do; several problems stand behind
            one another.
    """
    checked = _check(Config, config)
    _check_combinations(checked)
    plain = checked.model_dump(by_alias=True, exclude_unset=True)
    for group in ("segmenter", "captioner"):
        choice = plain[group]
        if choice.get("target") is None:  # a user's own segmenter has settings of its own
            settings = _check(
                settings_model(group, choice["name"]), choice["settings"], where=(group, "settings")
            )
            choice["settings"] = settings.model_dump(exclude_unset=True)
    return plain


def _check(
    model: type[Checked], values: Mapping[str, Any], *, where: tuple[str, ...] = ()
) -> Checked:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_describe(problem, model, where) for problem in error.errors()]
    # A union reports each of its members: one line per field is enough.
    lines = list({line.split(":", 1)[0]: line for line in reversed(lines)}.values())[::-1]
    raise ValueError(
        "; ".join(lines[:3]) + (f" (and {len(lines) - 3} more)" if len(lines) > 3 else "")
    )


def _check_combinations(config: Config) -> None:
    _check_objective(config.objective)
    _check_rooms(config)
    if len(set(config.stages)) != len(config.stages):
        raise ValueError(f"stages: found {config.stages}, with repetitions; name each once")
    if sorted(config.stages, key=STAGES.index) != config.stages:
        raise ValueError(
            f"stages: found {config.stages}; they run in the order {', '.join(STAGES)}, so write"
            " them in it"
        )
    if config.dataset.name == "folder" and config.dataset.root is None:
        raise ValueError("dataset.root: a value is needed; give the folder as dataset.root=FOLDER")
    if config.dataset.name != "folder" and config.dataset.root is not None:
        found = f"found {config.dataset.root!r}, but dataset={config.dataset.name} makes its own"
        raise ValueError(f"dataset.root: {found}; use dataset=folder")
    if config.dataset.name == "toonworld" and (config.dataset.size or 0) > CAST:
        raise ValueError(
            f"dataset.size: found {config.dataset.size}; a cast has {CAST} members, so choose 1 to"
            f" {CAST}"
        )
    if config.dataset.name != "toonworld" and config.dataset.cast_seed is not None:
        raise ValueError(
            f"dataset.cast_seed: found {config.dataset.cast_seed}, but only dataset=toonworld draws"
            " casts; remove it"
        )
    if config.trainer.strategy == "auto" and config.trainer.devices * config.trainer.num_nodes > 1:
        raise ValueError(
            f"trainer.strategy: found 'auto' for {config.trainer.devices} devices; use trainer=ddp"
            " or trainer=ddp_sim"
        )
    if not config.artifacts.reuse and config.trainer.devices * config.trainer.num_nodes > 1:
        raise ValueError(
            "artifacts.reuse: found false with several ranks, which share the store; give a new"
            " artifacts.root=FOLDER"
        )
    if config.trainer.precision == "16-mixed" and config.trainer.accelerator == "cpu":
        raise ValueError(
            "trainer.precision: found '16-mixed' on the CPU; use bf16-mixed, 32-true or auto"
        )


def _check_rooms(config: Config) -> None:
    diffusion, method, family = config.diffusion, config.method.name, config.model.family
    if diffusion.rank == 0 and not diffusion.train_embeddings:
        raise ValueError(
            "diffusion.rank: found 0 with diffusion.train_embeddings=false: nothing would train;"
            " change one of them"
        )
    _check_hardware(diffusion, config.trainer)
    if diffusion.pair_weight + diffusion.prior_weight > 1:
        both = (
            f"found {diffusion.pair_weight}, with diffusion.prior_weight={diffusion.prior_weight}"
        )
        raise ValueError(
            f"diffusion.pair_weight: {both}; they are shares of a batch, together at most 1"
        )
    ranks = config.trainer.devices * config.trainer.num_nodes
    _check_contrastive(
        config.contrastive,
        has_stage_1=config.method.contrastive,
        method=method,
        family=family,
        ranks=ranks,
    )
    for name in ("global_", "region", "mix"):
        pairs, field = getattr(config.augmentation, name), f"augmentation.{name.rstrip('_')}"
        if (
            pairs.canvas == "generated"
            and pairs.num_pairs
            and not config.augmentation.contexts.backgrounds
        ):
            raise ValueError(
                f"{field}.canvas: found 'generated' without augmentation.contexts.backgrounds; name"
                " some places there"
            )
        for range_name in ("scale", "vertical"):
            low, high = getattr(pairs, range_name)
            if low > high:
                raise ValueError(
                    f"{field}.{range_name}: found [{low}, {high}]; write the smaller number first"
                )
    if len(set(config.generation.seeds)) != len(config.generation.seeds):
        raise ValueError(
            f"generation.seeds: found {config.generation.seeds}, with repetitions; name each once"
        )
    if family != "toonworld" and config.generation.prompts.world == "toonworld":
        raise ValueError(
            f"generation.prompts.world: found 'toonworld' for a {family} model; use generation=real"
        )
    if family != "toonworld" and config.evaluation.reader.kind == "oracle":
        raise ValueError(
            f"evaluation.reader.kind: found 'oracle' for a {family} model, which draws no"
            " ToonWorld; use evaluation=real"
        )


def _check_contrastive(
    contrastive: Contrastive, *, has_stage_1: bool, method: str, family: str, ranks: int
) -> None:
    unused = {
        "control": contrastive.control,
        "reconstruction": contrastive.reconstruction and "settings",
    }
    unused["text_encoder"] = (
        None if contrastive.text_encoder == "frozen" else contrastive.text_encoder
    )
    for field, found in unused.items():
        if found is not None and not has_stage_1:
            raise ValueError(
                f"contrastive.{field}: found {found!r}, but method={method} has no stage 1; use"
                " method=clif"
            )
    if contrastive.control is not None and contrastive.text_encoder != "frozen":
        both = (
            f"found {contrastive.control!r} with"
            f" contrastive.text_encoder={contrastive.text_encoder}"
        )
        raise ValueError(
            f"contrastive.control: {both}, which it could not take back; use"
            " contrastive.text_encoder=frozen"
        )
    if "text_encoder_2" in (contrastive.encoders or []) and family != "sdxl":
        raise ValueError(
            f"contrastive.encoders: found 'text_encoder_2', but {family} has one text encoder; use"
            " [text_encoder] or null"
        )
    if len(set(contrastive.encoders or [])) != len(contrastive.encoders or []):
        raise ValueError(
            f"contrastive.encoders: found {contrastive.encoders}, with repetitions; name each once"
        )
    if (again := contrastive.reconstruction) is not None and again.batch_size % (
        ranks * again.accumulate
    ):
        field, split = (
            "contrastive.reconstruction.accumulate",
            f"{ranks} devices x {again.accumulate} parts",
        )
        raise ValueError(
            f"{field}: found {again.accumulate}; {split} do not divide"
            f" reconstruction.batch_size={again.batch_size} evenly"
        )


def _check_hardware(diffusion: Diffusion, trainer: Trainer) -> None:
    shares, size = trainer.devices * trainer.num_nodes * diffusion.accumulate, diffusion.batch_size
    if diffusion.accumulate > 1 and size % shares:
        split = f"{trainer.devices * trainer.num_nodes} devices x {diffusion.accumulate} parts"
        raise ValueError(
            f"diffusion.accumulate: found {diffusion.accumulate}; {split} do not divide"
            f" diffusion.batch_size={size} evenly"
        )
    if diffusion.optimizer == "adamw8bit" and importlib.util.find_spec("bitsandbytes") is None:
        missing = (
            'the package bitsandbytes is not installed; pip install "bitsandbytes>=0.50", or use'
            " diffusion.optimizer=adamw"
        )
        raise ValueError(f"diffusion.optimizer: found 'adamw8bit', but {missing}")
    if (
        diffusion.compile
        and trainer.accelerator == "cpu"
        and not any(map(shutil.which, ("c++", "g++", "clang++")))
    ):
        missing = "there is no C++ compiler, which torch.compile needs on CPUs"
        raise ValueError(
            f"diffusion.compile: found true, but {missing}; install g++ or set it to false"
        )


def _check_objective(objective: str | None) -> None:
    if objective is not None and objective not in METRICS:
        near = difflib.get_close_matches(objective, METRICS, n=1, cutoff=0.5)
        raise ValueError(
            f"objective: found {objective!r};"
            f" {f'did you mean {near[0]!r}?' if near else 'choose from ' + ', '.join(METRICS)}"
        )


def _describe(problem: Any, model: Any, where: tuple[str, ...]) -> str:
    location = [part for part in problem["loc"] if not _is_type_tag(part)]
    field = ".".join(str(part) for part in (*where, *location)) or "config"
    given = problem["input"]
    if problem["type"] == "extra_forbidden":
        known = _keys_beside(model, location)
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
        return f"{field}: no such key (given {given!r}); {remedy}"
    if problem["type"] == "missing":
        return f"{field}: missing; compose the config from conf/, where every key has a default"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}: found {given!r}; {message[0].lower() + message[1:]}".replace(
        "input should", "it should"
    )


def _is_type_tag(part: Any) -> bool:
    # pydantic puts the tried type of a union into the location
    return isinstance(part, str) and (
        part[:1].isupper() or "[" in part or part in ("int", "float", "str", "bool")
    )


def _keys_beside(model: Any, location: list[Any]) -> list[str]:
    for part in location[:-1]:
        fields = {
            field.alias or name: field for name, field in getattr(model, "model_fields", {}).items()
        }
        if part not in fields:
            break
        model = _model_in(fields[part].annotation)
    return [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]


def _model_in(annotation: Any) -> Any:
    if (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, BaseModel)
    ):
        return annotation
    for inner in typing.get_args(annotation):
        if (found := _model_in(inner)) is not None:
            return found
    return None
