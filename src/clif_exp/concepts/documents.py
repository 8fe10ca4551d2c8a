"""Reading of users' text files, bounded before they are parsed: size, depth, number of values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clif_exp.concepts.wording import visible

MAX_BYTES = 2**20  # of one file; a thousand captioned images take a fifth of it
MAX_DEPTH = 20  # of lists and mappings within one another; ours need five
MAX_VALUES = 50_000  # of a YAML file, each alias counted as what it stands for


def read_text(file: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: it is too large, unreadable or in another encoding; names the file.
    """
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(
                f"{file.name}: has {size:,} bytes. A description has at most {MAX_BYTES:,}: split"
                " the set, or check that it is the right file."
            )
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"{file.name}: cannot be read ({error.strerror}). Check its permissions."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file.name}: is not in UTF-8 (byte {error.start:,}). Save it in that encoding."
        ) from None


def read_json(file: Path, *, text: str | None = None, where: str | None = None) -> Any:
    """Read JSON, refusing keys that are written twice.

    Args:
        file: of at most 1 MiB.
        text: what to parse instead of the file's whole content (a line of it).
        where: how messages call it; None: by the file's name.

    Raises:
        ValueError: what is wrong, with the file's name.
    """
    where = where or file.name
    text = read_text(file) if text is None else text
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        problem = f"is nested too deeply; {MAX_DEPTH} levels are the most"
    except ValueError as error:  # also an integer of thousands of digits
        problem = f"is not valid JSON ({error})"
    raise ValueError(f"{where}: {problem}. Correct it there.")


def read_yaml(file: Path) -> Any:
    """Read YAML (plain values only), refusing keys that are written twice and alias bombs.

    Raises:
        ValueError: what is wrong, with the file's name.
    """
    import yaml

    text = read_text(file)
    loader_class: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _bound_events(yaml.parse(text, Loader=loader_class))
        loader = loader_class(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measure(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        problem = f"is not valid YAML ({' '.join(str(error).split())})"
    except ValueError as error:  # of this module, or of a date or an integer that is none
        problem = str(error)
    raise ValueError(f"{file.name}: {problem}. Correct it there.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{visible(key)}' is written twice")
        found[key] = value
    return found


def _bound_events(events: Any) -> None:
    """Count before anything is built: the parser's events come one by one."""
    depth = values = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        values += kind in ("ScalarEvent", "AliasEvent", "SequenceStartEvent", "MappingStartEvent")
        if depth > MAX_DEPTH + 2:  # stream and document are two
            raise ValueError(f"is nested too deeply; {MAX_DEPTH} levels are the most")
        _bound_values(values)


def _bound_values(values: int) -> None:
    if values > MAX_VALUES:
        raise ValueError(
            f"holds more than {MAX_VALUES:,} values, aliases counted as what they stand for"
        )


def _measure(node: Any, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Return how many values a node stands for and how deep it is, with aliases written out."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise ValueError(f"line {node.start_mark.line + 1} stands for itself")
        return found
    known[id(node)] = None
    children: list[Any] = []
    if node.id == "mapping":
        _refuse_twice(node)
        children = [child for pair in node.value for child in pair]
    elif node.id == "sequence":
        children = node.value
    values, depth = 1, 0
    for child in children:
        more, deeper = _measure(child, known)
        values, depth = values + more, max(depth, deeper)
        _bound_values(values)
    depth += 1
    if depth > MAX_DEPTH + 1:  # a scalar counts too
        raise ValueError(f"is nested too deeply; {MAX_DEPTH} levels are the most")
    known[id(node)] = values, depth
    return values, depth


def _refuse_twice(node: Any) -> None:
    keys = set()
    for key, _ in node.value:
        if key.id != "scalar":
            continue
        if (key.tag, key.value) in keys:
            raise ValueError(
                f"line {key.start_mark.line + 1}: '{visible(key.value)}' is written twice"
            )
        keys.add((key.tag, key.value))
