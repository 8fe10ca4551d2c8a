"""Checks plain values against a class of settings; problems become one line each."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from clif_exp.evaluation.settings import READERS
from clif_exp.runs.messages import RENAMED
from clif_exp.secrets import HIDDEN, is_secret, without_secrets

Checked = TypeVar("Checked", bound=BaseModel)


def check(
    model: type[Checked], values: Mapping[str, Any], *, where: tuple[str, ...] = ()
) -> Checked:
    """Check values against a class of settings.

    Args:
        model: the class.
        values: plain ones, by the YAML's keys.
        where: the keys above them, for the message.

    Raises:
        ValueError: names the field, what was given and how to fix it.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_describe(problem, model, where) for problem in error.errors()]
    # A union reports each of its members: one line per field is enough.
    lines = list({line.split(":", 1)[0]: line for line in reversed(lines)}.values())[::-1]
    raise ValueError(
        "; ".join(lines[:3]) + (f" (and {len(lines) - 3} more)" if len(lines) > 3 else "")
    )


def _describe(problem: Any, model: Any, where: tuple[str, ...]) -> str:
    location = [part for part in problem["loc"] if not _is_type_tag(part)]
    field = ".".join(str(part) for part in (*where, *location))
    given = problem["input"]
    shown = _shown(given, field)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" and isinstance(given, Mapping | BaseModel):
        return f"{field}.{message}" if field else message  # of a combination, which names its field
    if problem["type"] == "extra_forbidden":
        if field in RENAMED:
            return f"{field}: is now called {RENAMED[field]}"
        known = _keys_beside(model, location)
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
        return f"{field}: no such key (given {shown}); {remedy}"
    if problem["type"] == "missing":
        return f"{field}: missing; compose the config from conf/, where every key has a default"
    if problem["type"] == "union_tag_invalid":
        key, choices = problem["ctx"]["discriminator"].strip("'"), problem["ctx"]["expected_tags"]
        return f"{field}.{key}: found {problem['ctx']['tag']!r}; choose from {choices}"
    text = f"{field or 'config'}: found {shown}; {message[0].lower() + message[1:]}"
    return text.replace("input should", "it should")


def _shown(given: Any, field: str) -> str:
    """Write a value for a message: without secrets, and no longer than a line."""
    text = HIDDEN if is_secret(field) else repr(without_secrets(given))
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def _is_type_tag(part: Any) -> bool:
    # pydantic puts the tried member of a union into the location.
    names = ("int", "float", "str", "bool", *READERS)
    return isinstance(part, str) and (part[:1].isupper() or "[" in part or part in names)


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
