"""The composed config, checked before anything runs: every key, value and combination.

`validate` turns it into plain dicts of the declared types (1 and 1.0 of a float key have one fingerprint). The rooms' own
settings are described in `clif_exp.config_rooms`.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from clif_exp.config_rooms import (
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
)

STAGES = ("curation", "contrastive", "diffusion", "generation", "evaluation", "report")
Stage = Literal["curation", "contrastive", "diffusion", "generation", "evaluation", "report"]
CAST = 18  # members of a ToonWorld cast
METRICS = (
    *(f"{kind}/{name}" for kind in ("single", "multi", "prior") for name in ("text_alignment", "image_alignment", "identity")),
    *(f"{kind}/{name}" for kind in ("single", "multi", "prior") for name in ("attribute_binding", "attendance", "duplicates")),
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
        ValueError: names the field, what was given and what would do; several problems stand behind one another.
    """
    try:
        checked = Config.model_validate(config)
    except ValidationError as error:
        lines = [_describe(problem) for problem in error.errors()]
        # A union reports each of its members: one line per field is enough.
        lines = list({line.split(":", 1)[0]: line for line in reversed(lines)}.values())[::-1]
        raise ValueError("; ".join(lines[:3]) + (f" (and {len(lines) - 3} more)" if len(lines) > 3 else "")) from None
    _check_combinations(checked)
    return checked.model_dump()


def _check_combinations(config: Config) -> None:
    _check_objective(config.objective)
    if len(set(config.stages)) != len(config.stages):
        raise ValueError(f"stages: found {config.stages}, with repetitions; name each once")
    if sorted(config.stages, key=STAGES.index) != config.stages:
        raise ValueError(f"stages: found {config.stages}; they run in the order {', '.join(STAGES)}, so write them in it")
    if config.dataset.name == "folder" and config.dataset.root is None:
        raise ValueError("dataset.root: a value is needed; give the folder as dataset.root=FOLDER")
    if config.dataset.name != "folder" and config.dataset.root is not None:
        found = f"found {config.dataset.root!r}, but dataset={config.dataset.name} makes its own"
        raise ValueError(f"dataset.root: {found}; use dataset=folder")
    if config.dataset.name == "toonworld" and (config.dataset.size or 0) > CAST:
        raise ValueError(f"dataset.size: found {config.dataset.size}; a cast has {CAST} members, so choose 1 to {CAST}")
    if config.dataset.name != "toonworld" and config.dataset.cast_seed is not None:
        raise ValueError(f"dataset.cast_seed: found {config.dataset.cast_seed}, but only dataset=toonworld draws casts; remove it")
    if config.trainer.strategy == "auto" and config.trainer.devices * config.trainer.num_nodes > 1:
        raise ValueError(f"trainer.strategy: found 'auto' for {config.trainer.devices} devices; use trainer=ddp or trainer=ddp_sim")
    if config.trainer.precision == "16-mixed" and config.trainer.accelerator == "cpu":
        raise ValueError("trainer.precision: found '16-mixed' on the CPU; use bf16-mixed, 32-true or auto")


def _check_objective(objective: str | None) -> None:
    if objective is not None and objective not in METRICS:
        near = difflib.get_close_matches(objective, METRICS, n=1, cutoff=0.5)
        raise ValueError(f"objective: found {objective!r}; {f'did you mean {near[0]!r}?' if near else 'choose from ' + ', '.join(METRICS)}")


def _describe(problem: Any) -> str:
    location = [part for part in problem["loc"] if not _is_type_tag(part)]
    field = ".".join(str(part) for part in location) or "config"
    given = problem["input"]
    if problem["type"] == "extra_forbidden":
        known = _keys_beside(location)
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
        return f"{field}: no such key (given {given!r}); {remedy}"
    if problem["type"] == "missing":
        return f"{field}: missing; compose the config from conf/, where every key has a default"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}: found {given!r}; {message[0].lower() + message[1:]}".replace("input should", "it should")


def _is_type_tag(part: Any) -> bool:
    # pydantic puts the tried type of a union into the location
    return isinstance(part, str) and (part[:1].isupper() or "[" in part or part in ("int", "float", "str", "bool"))


def _keys_beside(location: list[Any]) -> list[str]:
    model: Any = Config
    for part in location[:-1]:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            break
        model = _model_in(fields[part].annotation)
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, BaseModel):
        return annotation
    for inner in typing.get_args(annotation):
        if (found := _model_in(inner)) is not None:
            return found
    return None
