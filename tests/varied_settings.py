"""Another value of any setting, and what every artifact of a config would be called."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from clif_exp.contrastive.settings import ReconstructionSettings
from clif_exp.diffusion.settings import ScaleSettings, TextLoraSettings
from clif_exp.runs.config import Config
from clif_exp.runs.execution import Plan
from clif_exp.runs.settings import TrialSettings
from clif_exp.settings import Marker, Strict

# Settings whose other value cannot be invented from their type.
OTHER_VALUES: dict[str, Any] = {
    "contrastive.reconstruction": ReconstructionSettings(
        steps=2, batch_size=2, learning_rate=1e-3, weight_decay=0.0, accumulate=1
    ),
    "diffusion.scale_augmentation": ScaleSettings(variants=2),
    "diffusion.text_lora": TextLoraSettings(
        learning_rate=1e-3, rank=2, alpha=2.0, target_modules=["q_proj"]
    ),
    "pruning.trial": TrialSettings(storage="file", study="study", number=0, pruner={}),
    "generation.prompts.source": ["built"],
    "generation.prompts.world": "generic",
    "generation.prompts.pairs": 1,
}


def fields(
    model: Strict, *, path: tuple[str, ...] = (), inherited: Marker | None = None
) -> Iterator[tuple[tuple[str, ...], Any, Marker | None]]:
    """Yield path, annotation and marker of every setting, at all depths."""
    for name, field in type(model).model_fields.items():
        marks = [mark for mark in field.metadata if isinstance(mark, Marker)]
        mark = inherited or (marks[0] if marks else None)
        value = getattr(model, name)
        if isinstance(value, Strict):
            yield from fields(value, path=(*path, name), inherited=mark)
        else:
            yield (*path, name), field.annotation, mark


def value_of(model: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        model = getattr(model, name)
    return model


def changed(model: Any, path: tuple[str, ...], value: Any) -> Any:
    """Copy settings with another value at a path; combination rules are not checked."""
    first, *rest = path
    assert first in type(model).model_fields
    inner = changed(getattr(model, first), tuple(rest), value) if rest else value
    return model.model_copy(update={first: inner})


def other(annotation: Any, value: Any) -> Any:
    """Invent another value of a type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return other(arguments[0], value)
    if origin in (typing.Union, types.UnionType):
        (kind,) = (argument for argument in arguments if argument is not type(None))
        return other(kind, value)
    if origin is Literal:
        return next((choice for choice in arguments if choice != value), "another")
    if origin is list:
        kept = value or []
        return [*kept[:-1], other(arguments[0], kept[-1] if kept else None)]
    if origin is dict:
        key = next(iter(value))
        return value | {key: other(arguments[1], value[key])}
    if annotation is bool:
        return not value
    if annotation is int:
        return (value or 0) + 1
    if annotation is float:
        return value / 2 if value else 0.5
    assert annotation is str, f"a value of {annotation} cannot be invented: add it to OTHER_VALUES"
    return f"{value or ''}another"


def variant(model: Any, path: tuple[str, ...], annotation: Any) -> Any:
    """Copy settings with another value of one of them."""
    before = value_of(model, path)
    key = ".".join(path)
    value = OTHER_VALUES[key] if key in OTHER_VALUES else other(annotation, before)
    assert value != before, key
    return changed(model, path, value)


def fingerprints(plan: Plan, config: Config) -> dict[str, str]:
    """What every artifact of a config would be called."""
    from clif_exp.runs.pipeline import forecast
    from clif_exp.runs.preparation import select_prompts

    # `prepare` selects the prompts, whose text is fingerprinted in place of their settings.
    prompts, _ = select_prompts(plan.concepts, config.generation.prompts)
    found = forecast(dataclasses.replace(plan, config=config, prompts=prompts)).artifacts
    return {name: artifact.fingerprint for name, artifact in found.items()}
